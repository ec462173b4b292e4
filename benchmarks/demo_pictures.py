"""The demo's second pass: input, mask and new background side by side, as a video and as a sheet of six frames."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from benchmarks.demo_stream import MaskSpool
from benchmarks.scenery import evening_office
from humanseg.outputs import write_png
from humanseg.video import VideoReader, VideoWriter
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.composite import compose
from humanseg.vision.letterbox import shrink_or_grow
from humanseg.vision.sheet import captioned, contact_sheet, fit_height, mask_panel, side_by_side

CAPTIONS = ("input", "mask", "new background")
#: Larger panels are shrunk: three of them side by side must still play smoothly.
LARGEST_PANEL = Size(1280, 720)
SHEET_FRAMES = 6
SHEET_PANEL_HEIGHT_PX = 200
#: A sheet is about as wide as a window.
SHEET_WIDTH_PX = 1300


def draw(clip: Path, masks: MaskSpool, out: Path, show: Callable[[], None]) -> None:
    """Write ``demo.mp4`` and ``contact_sheet.png`` of a clip and the mask of each of its frames.

    Raises:
        VideoError: the clip cannot be read, or the video not written.
        MediaError: the sheet cannot be written.
    """
    chosen = {(2 * index + 1) * masks.count // (2 * SHEET_FRAMES) for index in range(SHEET_FRAMES)}
    cells: list[Picture] = []
    background: Picture | None = None
    with VideoReader(clip) as reader, VideoWriter(out / "demo.mp4", reader.info.fps) as writer:
        for number, (frame, alpha8) in enumerate(zip(islice(reader, masks.count), masks, strict=True)):
            size = Size.of(frame.picture).within(LARGEST_PANEL.area_px, max(LARGEST_PANEL))
            if background is None or Size.of(background) != size:
                background = evening_office(size)
            panels = _panels(shrink_or_grow(frame.picture, size), shrink_or_grow(alpha8, size), background)
            writer.write(captioned(side_by_side(panels), CAPTIONS), frame.capture_time_us)
            if number in chosen:
                cells.append(_cell(panels, f"frame {number}, {frame.capture_time_us / 1e6:.1f} s"))
            show()
    columns = max(1, SHEET_WIDTH_PX // cells[0].shape[1])
    write_png(out / "contact_sheet.png", contact_sheet(cells, columns))


def _panels(picture: Picture, alpha8: Alpha8, background: Picture) -> list[Picture]:
    return [picture, mask_panel(alpha8), compose(picture, alpha8, background)]


def _cell(panels: list[Picture], caption: str) -> Picture:
    small = side_by_side([fit_height(panel, SHEET_PANEL_HEIGHT_PX) for panel in panels])
    return captioned(small, (caption, *CAPTIONS[1:]))
