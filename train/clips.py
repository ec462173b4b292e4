"""Short clips of annotated people before other backgrounds, with the exact alpha and the exact motion; no torch.

For measuring and for learning over time. A cut-out person moves as a whole and is warped a little, before a background
that stands still or moves with the camera; exposure, sensor noise and JPEG are laid over it. Every movement is a
function of time in seconds, so that a clip of 10 fps shows the same as one of 60. ``python -m train.clips`` writes
some to look at.
"""

import argparse
import enum
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from humanseg.video import VideoError, VideoWriter
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, BoolMask, Field, Picture, Size
from humanseg.vision.letterbox import to_alpha8
from humanseg.vision.sheet import contact_sheet, fit_height, mask_panel, side_by_side
from humanseg.vision.temporal_metrics import carried, from_inside
from train.clip_motion import Dash, Rest, Sway, Warp, Wave
from train.clip_motion import Path as MovingPath
from train.cutouts import foreground_colors
from train.data import DataError, Photo, Split, find_photos, read_photo, split_photos
from train.sample import Sample
from train.synthesis import Borders, can_be_cut_out, fill_canvas_randomly

#: Photos of these sources show people who may be cut out: their masks have no void and were made with care.
SOURCES = ("portraits", "mixed", "full_body")
LOWEST_FPS, HIGHEST_FPS = 5.0, 60.0
DEFAULT_SIZE = Size(640, 360)
#: Sides of the background beyond the canvas, as share of it: what a moving camera may uncover.
_MARGIN = 0.12
#: The sheet has this many frames of each clip.
SHEET_COLUMNS, SHEET_CELL_HEIGHT_PX = 6, 120
#: A photo is not magnified more than this.
_MOST_SCALE = 1.6


class ClipKind(enum.StrEnum):
    """What happens in a clip."""

    STILL = "still"
    """Nothing moves; only light, noise and codec change."""
    TALK = "talk"
    """The person sways by up to 10 px, the camera stands."""
    HANDHELD = "handheld"
    """Camera and person move."""
    FAST = "fast"
    """The person jumps 60 px aside within 0.3 s, and back."""
    CUT = "cut"
    """Like talk, with another person and place from half time on."""
    OCCLUDER = "occluder"
    """Like talk, and a thing that is no person passes before them."""


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """A frame with all that is true of it, each (H, W).

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        alpha: float32 in [0, 1], exact.
        motion: (H, W, 2) float32: by how many pixels in x and y the part of the person at each pixel lay elsewhere in
            the frame before; carried on smoothly beyond the person. 0 in the first frame of a scene.
        followed: where ``motion`` leads from alpha to alpha: from inside the picture, no occluder there now or then.
            False throughout in the first frame of a scene.
        moving: where what is seen has moved since the frame before; True throughout in the first frame of a scene.
        is_cut: another scene begins here; False for the clip's first frame.
        time_us: capture time from 0 on.
    """

    picture: Picture
    alpha: Alpha
    motion: NDArray[np.float32]
    followed: BoolMask
    moving: BoolMask
    is_cut: bool
    time_us: int


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Which clip; equal plans over equal photos give equal clips, bit by bit."""

    kind: ClipKind
    seed: int
    size: Size = DEFAULT_SIZE
    fps: float = 30.0
    duration_s: float = 2.0

    def __post_init__(self) -> None:
        if not LOWEST_FPS <= self.fps <= HIGHEST_FPS:
            raise ValueError(f"{self.fps:g} fps; allowed are {LOWEST_FPS:g} to {HIGHEST_FPS:g}")
        if min(self.size) < 64:
            raise ValueError(f"clip of {self.size}; each side must be at least 64")
        if self.frame_count < 2:
            raise ValueError(f"{self.duration_s:g} s at {self.fps:g} fps is less than two frames; make it longer")

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return round(self.duration_s * self.fps)


def make_clip(plan: ClipPlan, people: Sequence[Photo], backgrounds: Sequence[Photo]) -> Iterator[ClipFrame]:
    """The frames of a clip; ``people`` as `usable_people` gives them.

    Raises:
        DataError: no photo serves, or one cannot be read.
    """
    # Scene and noise have dice of their own: the scene must be the same at every frame rate.
    kind_number = list(ClipKind).index(plan.kind)
    rng = np.random.default_rng((plan.seed, kind_number, 0))
    scenes = [_draw_scene(plan, people, backgrounds, rng) for _ in range(2 if plan.kind is ClipKind.CUT else 1)]
    lens = _Lens.draw(rng)
    noise_rng = np.random.default_rng((plan.seed, kind_number, 1))
    half = plan.frame_count // 2
    before: _Moment | None = None
    for number in range(plan.frame_count):
        time_s = number / plan.fps
        scene = scenes[1] if len(scenes) == 2 and number >= half else scenes[0]
        colors, alpha, covered = scene.render(time_s)
        now = _Moment(scene, time_s, alpha, covered)
        motion, followed, moving = _against(before, now)
        picture = lens.shoot(colors, time_s, noise_rng)
        is_cut = before is not None and before.scene is not scene
        yield ClipFrame(picture, alpha, motion, followed, moving, is_cut, round(time_s * 1e6))
        before = now


def usable_people(photos: Sequence[Photo]) -> list[Photo]:
    """The photos whose people may be cut out, by source; whether one really serves shows when it is read."""
    return [photo for photo in photos if photo.source in SOURCES and photo.mask is not None]


@dataclass(frozen=True, slots=True)
class _Lens:
    """What the camera adds: exposure, noise, codec."""

    exposure: Wave
    noise_levels: float
    jpeg_percent: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Lens":
        return cls(Wave.draw(rng, 0.02, 0.15, 1.5), float(rng.uniform(2.5, 5.0)), int(rng.integers(55, 86)))

    def shoot(self, colors: NDArray[np.float32], time_s: float, rng: np.random.Generator) -> Picture:
        """(H, W, 3) float32 RGB in 0..255 as the camera delivers it."""
        lit = colors * np.float32(1.0 + self.exposure.at(time_s))
        lit += rng.standard_normal(lit.shape, np.float32) * np.float32(self.noise_levels)
        return cv.jpeg_round_trip(np.clip(np.rint(lit), 0, 255).astype(np.uint8), self.jpeg_percent)


@dataclass(frozen=True, slots=True)
class _Occluder:
    """An ellipse with a texture of its own, that crosses the picture."""

    colors: NDArray[np.float32]
    radius: tuple[float, float]
    y: float
    start_s: float
    speed_px_s: float

    @classmethod
    def draw(cls, background: Picture, plan: ClipPlan, rng: np.random.Generator) -> "_Occluder":
        width, height = plan.size
        radius = (float(rng.uniform(0.08, 0.14)) * width, float(rng.uniform(0.2, 0.35)) * height)
        # In at a tenth of the clip and out at nine tenths.
        speed_px_s = (width + 2 * radius[0]) / (0.8 * plan.duration_s) * float(rng.choice((-1, 1)))
        colors = fill_canvas_randomly(background, plan.size, rng).astype(np.float32)
        return cls(colors, radius, float(rng.uniform(0.55, 0.8)) * height, 0.1 * plan.duration_s, speed_px_s)

    def at(self, time_s: float) -> tuple[NDArray[np.float32], Field]:
        """Its colors and how much of each pixel it covers, in [0, 1]."""
        height, width = self.colors.shape[:2]
        way = abs(self.speed_px_s) * (time_s - self.start_s) - self.radius[0]
        x = way if self.speed_px_s > 0 else width - way
        columns = (np.arange(width, dtype=np.float32) - np.float32(x)) / np.float32(self.radius[0])
        rows = (np.arange(height, dtype=np.float32) - np.float32(self.y))[:, np.newaxis] / np.float32(self.radius[1])
        # Distance from the rim in pixels, nearly: an edge two pixels wide.
        inside = (1 - np.hypot(columns, rows)) * np.float32(min(self.radius))
        covered: Field = np.clip(inside / 2 + np.float32(0.5), 0, 1)
        grid_x, grid_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        return cv.remap_f32(self.colors, (grid_x - np.float32(x)) % width, grid_y), covered


@dataclass(frozen=True, slots=True)
class _Scene:
    """A person before a background."""

    size: Size
    person: NDArray[np.float32]
    """(h, w, 4): color times alpha, then alpha; a rim of zeros but where the photo cuts the person off."""
    place: tuple[float, float]
    """Of the top left pixel of ``person`` on the canvas, at rest."""
    behind: NDArray[np.float32]
    """(H', W', 3), larger than the canvas by its margin on each side."""
    margin_px: tuple[int, int]
    body: MovingPath
    camera: MovingPath
    warp: Warp
    occluder: _Occluder | None

    @property
    def has_moving_camera(self) -> bool:
        """Whether the background moves, too."""
        return not isinstance(self.camera, Rest)

    def render(self, time_s: float) -> tuple[NDArray[np.float32], Alpha, Field]:
        """Colors (H, W, 3) in 0..255, alpha, and how much of each pixel the occluder covers."""
        x, y = self._sources(time_s)
        layer = cv.remap_f32(self.person, x, y)
        alpha = np.clip(layer[:, :, 3], 0, 1)
        world = _transformed(_inverse(self._camera(time_s)), *_grid(self.size))
        colors = cv.remap_f32(
            self.behind, world[0] + np.float32(self.margin_px[0]), world[1] + np.float32(self.margin_px[1])
        )
        colors *= 1 - alpha[:, :, np.newaxis]
        colors += layer[:, :, :3]
        if self.occluder is None:
            return colors, alpha, np.zeros_like(alpha)
        thing, covered = self.occluder.at(time_s)
        colors += covered[:, :, np.newaxis] * (thing - colors)
        return colors, alpha * (1 - covered), covered

    def motion(self, time_s: float, before_s: float) -> NDArray[np.float32]:
        """Backward motion of the person's surface, (H, W, 2): where it was at ``before_s``, minus where it is."""
        now, before = self._matrix(time_s), self._matrix(before_s)
        if np.array_equal(now, before) and not self.warp.ripples:
            # Rounding would leave a millionth of a pixel, and still is still.
            return np.zeros((*self.size.shape, 2), np.float32)
        surface = self._sources(time_s)
        was_x, was_y = _transformed(before, *self.warp.undone(*surface, before_s))
        x, y = _grid(self.size)
        return np.stack((was_x - x, was_y - y), axis=2)

    def _sources(self, time_s: float) -> tuple[Field, Field]:
        """Which point of ``person`` is seen at each pixel."""
        x, y = _transformed(_inverse(self._matrix(time_s)), *_grid(self.size))
        shift_x, shift_y = self.warp.at(x, y, time_s)
        return x + shift_x, y + shift_y

    def _matrix(self, time_s: float) -> NDArray[np.float64]:
        """From ``person`` to the canvas."""
        height, width = self.person.shape[:2]
        put = np.array([[1, 0, self.place[0]], [0, 1, self.place[1]], [0, 0, 1]])
        # People turn about their hips.
        body = self.body.at(time_s).matrix((width / 2, 0.9 * height))
        matrix: NDArray[np.float64] = self._camera(time_s) @ put @ body
        return matrix

    def _camera(self, time_s: float) -> NDArray[np.float64]:
        return self.camera.at(time_s).matrix((self.size.width / 2, self.size.height / 2))


@dataclass(frozen=True, slots=True)
class _Moment:
    """What one frame shows, kept for the next."""

    scene: _Scene
    time_s: float
    alpha: Alpha
    covered: Field


def _against(before: _Moment | None, now: _Moment) -> tuple[NDArray[np.float32], BoolMask, BoolMask]:
    """Motion, where it can be followed, and what moves at all, from one moment to the next."""
    shape = now.alpha.shape
    if before is None or before.scene is not now.scene:
        return np.zeros((*shape, 2), np.float32), np.zeros(shape, np.bool_), np.ones(shape, np.bool_)
    motion = now.scene.motion(now.time_s, before.time_s)
    covered = (now.covered > 0) | (carried(before.covered, motion) > 0)
    person = (now.alpha > 0) | (before.alpha > 0)
    moves = motion.any(axis=2) & (person | now.scene.has_moving_camera)
    return motion, from_inside(motion) & ~covered, moves | (now.covered > 0) | (before.covered > 0)


def _draw_scene(
    plan: ClipPlan, people: Sequence[Photo], backgrounds: Sequence[Photo], rng: np.random.Generator
) -> _Scene:
    if not backgrounds:
        raise DataError("no photos without people for the backgrounds of clips; a source without masks holds them")
    sample = _draw_person(people, rng)
    person, place = _cut_out(sample, plan.size, rng)
    margin_px = (round(_MARGIN * plan.size.width), round(_MARGIN * plan.size.height))
    wide = Size(plan.size.width + 2 * margin_px[0], plan.size.height + 2 * margin_px[1])
    behind = fill_canvas_randomly(read_photo(backgrounds[int(rng.integers(len(backgrounds)))]), wide, rng).astype(
        np.float32
    )
    # Lengths are given for the usual size and grow with the clip's.
    unit = plan.size.width / DEFAULT_SIZE.width
    body: MovingPath = Sway.draw(
        rng, x_px=10 * unit, y_px=3 * unit, turn_degrees=1.5, zoom=0.01, shortest_s=0.9, longest_s=3.5
    )
    camera: MovingPath = Rest()
    warp = Warp.draw(rng, 2.5 * unit)
    occluder = None
    match plan.kind:
        case ClipKind.STILL:
            body, warp = Rest(), Warp()
        case ClipKind.HANDHELD:
            camera = Sway.draw(
                rng, x_px=16 * unit, y_px=9 * unit, turn_degrees=0.8, zoom=0.015, shortest_s=0.4, longest_s=2.5
            )
        case ClipKind.FAST:
            body = Dash(60 * unit, float(rng.uniform(0, 1.2)))
        case ClipKind.OCCLUDER:
            occluder = _Occluder.draw(read_photo(backgrounds[int(rng.integers(len(backgrounds)))]), plan, rng)
        case ClipKind.TALK | ClipKind.CUT:
            pass
    return _Scene(plan.size, person, place, behind, margin_px, body, camera, warp, occluder)


def _draw_person(people: Sequence[Photo], rng: np.random.Generator) -> Sample:
    """One who may be moved about: whole, but perhaps for the part below the photo."""
    for index in rng.permutation(len(people)):
        sample = Sample.read(people[int(index)])
        if not can_be_cut_out(sample):
            continue
        borders = Borders.of(sample)
        rows = np.flatnonzero((sample.alpha > 127).any(axis=1))
        if not (borders.left or borders.top or borders.right) and np.ptp(rows) >= 150:
            return sample
    raise DataError(
        f"none of {len(people)} photos of {', '.join(SOURCES)} shows a person of 150 px in height who is cut off"
        " neither above nor at a side"
    )


def _cut_out(sample: Sample, canvas: Size, rng: np.random.Generator) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The layer of a person at its scale, and the place of its top left pixel on the canvas."""
    rows, columns = np.nonzero(sample.alpha > 127)
    top, tall, middle = int(rows.min()), int(np.ptp(rows)) + 1, float(np.median(columns))
    cut_below = Borders.of(sample).bottom
    # Of whole figures some are shown whole and some, as before a webcam, down to the hips.
    shown = tall if cut_below or rng.random() < 0.2 else 0.5 * tall
    scale = min(float(rng.uniform(0.65, 0.92)) * canvas.height / shown, _MOST_SCALE)
    small = sample.resized(Size(round(sample.size.width * scale), round(sample.size.height * scale)))
    # Hard masks are a little generous: pulled in by a pixel, then softened.
    soft = cv.gauss(cv.erode(small.alpha, 3), 0.9)
    alpha = soft.astype(np.float32) * np.float32(1 / 255)
    layer = np.dstack((foreground_colors(small.picture, alpha) * alpha[:, :, np.newaxis], alpha))
    below = 0 if cut_below else 1
    padded = np.pad(layer, ((1, below), (1, 1), (0, 0)))
    x = canvas.width * float(rng.uniform(0.35, 0.65)) - middle * scale
    y = canvas.height - (top + shown) * scale
    if shown == tall and not cut_below:
        y -= 0.03 * canvas.height
    return padded, (x - 1, y - 1)


def _grid(size: Size) -> tuple[Field, Field]:
    x, y = np.meshgrid(np.arange(size.width, dtype=np.float32), np.arange(size.height, dtype=np.float32))
    return x, y


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.inv(matrix).astype(np.float64)


def _transformed(matrix: NDArray[np.float64], x: Field, y: Field) -> tuple[Field, Field]:
    (a, b, c), (d, e, f) = matrix[:2].astype(np.float32)
    return a * x + b * y + c, d * x + e * y + f


EXAMPLES = """examples:
  python -m train.clips --data ../shared/data/train --out out/clips
  python -m train.clips --data DATA --out out/clips --kind handheld fast --seeds 0 1 2 --fps 10

Each clip becomes an mp4 of picture and alpha side by side, and sheet.png shows six frames of each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.clips",
        description="Write synthetic clips with their exact masks, to look at.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = [str(kind) for kind in ClipKind]
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--kind", nargs="+", choices=kinds, default=kinds, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default 0")
    parser.add_argument("--size", type=Size.parse, default=DEFAULT_SIZE, metavar="WxH", help="default 640x360")
    parser.add_argument("--fps", type=float, default=30.0, help="5 to 60, default 30")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="default 2")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        plans = [
            ClipPlan(ClipKind(kind), seed, options.size, options.fps, options.seconds)
            for kind in options.kind
            for seed in options.seeds
        ]
    except ValueError as error:
        parser.error(str(error))
    try:
        split = split_photos(find_photos(options.data))
        options.out.mkdir(parents=True, exist_ok=True)
        _write_clips(plans, split, options.out)
    except (DataError, VideoError, OSError) as error:
        print(f"train.clips: {error}", file=sys.stderr)
        return 1
    print(f"{len(plans)} clips and sheet.png: {options.out}")
    return 0


def _write_clips(plans: Sequence[ClipPlan], split: Split, out: Path) -> None:
    """From the photos left aside for validation, which is what benchmarks use."""
    people = usable_people(split.validation)
    cells: list[Picture] = []
    for plan in tqdm(plans, unit="clip"):
        shown = set(np.linspace(0, plan.frame_count - 1, SHEET_COLUMNS).round().astype(int).tolist())
        with VideoWriter(out / f"{plan.kind}_{plan.seed}.mp4", Fraction(plan.fps).limit_denominator(1001)) as writer:
            for number, frame in enumerate(make_clip(plan, people, split.validation_backgrounds)):
                pair = side_by_side([frame.picture, mask_panel(to_alpha8(frame.alpha))], gap_px=0)
                writer.write(pair)
                if number in shown:
                    cells.append(fit_height(pair, SHEET_CELL_HEIGHT_PX))
    (out / "sheet.png").write_bytes(cv.encode_png(contact_sheet(cells, SHEET_COLUMNS)))


if __name__ == "__main__":
    sys.exit(main())
