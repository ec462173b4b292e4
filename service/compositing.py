"""Finished pictures: what a config may ask for, the session's images, and the picture of a frame and its mask.

Privacy fails closed by construction: `picture` wants the mask of the very frame, and nothing else here makes a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import simplejpeg

from humanseg.frames import PixelFormat, RawFrame, pack_planes
from humanseg.options import YuvColor
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Alpha8, Picture, Size
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.composite import BLUR_RATIO, cover, solid
from humanseg.vision.composite_edge import LARGEST_SPREAD_RATIO, spread_alpha
from humanseg.vision.composite_planes import (
    DEFAULT_SOFTNESS_PERCENT,
    LARGEST_BLUR_RATIO,
    LEAST_BLUR_RATIO,
    Blur,
    compose_frame,
    cut_out,
    sharpen_alpha,
)
from humanseg.vision.letterbox import Placement
from humanseg.vision.orientation import Rotation, to_sent, upright_size

#: Images that a stream may have: each holds up to three bytes a pixel of the largest frame.
IMAGES_LIMIT = 4
IMAGE_ID_LIMIT = 64
DEFAULT_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class BackgroundImage:
    """An uploaded image, decoded: (H, W, 3) uint8 RGB, upright."""

    image_id: str
    picture_rgb: Picture


@dataclass(frozen=True, slots=True)
class BackgroundFile:
    """An image for a still picture as the client sent it; to be decoded before a picture is made with it."""

    image_id: str
    file: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Transparent:
    """No background."""


@dataclass(frozen=True, slots=True)
class RequestedComposite:
    """A composite as the client sent it; 0 and None are "the server decides"."""

    background: "Blur | tuple[int, int, int] | str | Transparent | None"
    """A blur of ratio 0 is the default one; a text is the id of an image."""
    picture_format: PixelFormat | None = None
    jpeg_quality: int = 0
    softness_percent: int = 0
    spread_ratio: float = 0.0
    light_wrap_percent: int = 0


@dataclass(slots=True)
class _Covering:
    """A background brought to a frame's form, kept since the frames of a video are alike."""

    form: tuple[Size, PixelFormat, YuvColor, Rotation, bool] | None = None
    frame: RawFrame | None = None


Background: TypeAlias = Blur | tuple[int, int, int] | BackgroundImage | BackgroundFile | Transparent


@dataclass(frozen=True, slots=True)
class CompositePlan:
    """A composite that holds: checked, every default filled in."""

    background: Background
    picture_format: PixelFormat
    jpeg_quality: int
    """0 where the pictures are no JPEG."""
    softness_percent: int
    spread_ratio: float = 0.0
    """How far the mask goes outwards, as a share of the frame's height."""
    light_wrap_percent: int = 0
    _covering: _Covering = field(default_factory=_Covering, compare=False, repr=False)

    def spread(self, alpha: Alpha, placement: Placement, frame: Size) -> Alpha:
        """A canvas-sized alpha as wide as it shall show, for a frame as it was sent; itself where that is as it is."""
        if self.spread_ratio == 0:
            return alpha
        radius_px = self.spread_ratio * frame.height * placement.width / placement.picture.width
        wider = alpha.copy()
        placement.crop(wider)[:] = spread_alpha(np.ascontiguousarray(placement.crop(alpha)), radius_px)
        return wider

    def picture(self, frame: RawFrame, alpha8: Alpha8, rotation: Rotation, mirrored: bool) -> "RawFrame | Picture":
        """The people of a frame before the background; (H, W, 4) RGBA where that is transparent.

        Args:
            frame: as it was sent.
            alpha8: its own mask, (H, W) uint8, lying as the frame was sent.
            rotation: by which the frame must be turned to stand upright; images are turned the other way.
            mirrored: whether the frame is mirrored; images are mirrored too.
        """
        alpha = sharpen_alpha(alpha8, self.softness_percent)
        match self.background:
            case Transparent():
                return cut_out(frame, alpha)
            case Blur():
                return compose_frame(frame, alpha, self.background, self.light_wrap_percent / 100)
            case _:
                covering = self._covering_of(frame, rotation, mirrored)
                return compose_frame(frame, alpha, covering, self.light_wrap_percent / 100)

    def encode(self, picture: "RawFrame | Picture") -> bytes:
        """What `picture` made, in the format of the plan."""
        if not isinstance(picture, RawFrame):
            return cv.encode_png_rgba(picture)
        if self.picture_format is PixelFormat.JPEG:
            file: bytes = simplejpeg.encode_jpeg(to_rgb(picture), self.jpeg_quality, "RGB", "420")
            return file
        if self.picture_format is PixelFormat.PNG:
            return cv.encode_png(to_rgb(picture))
        return pack_planes(picture)

    def _covering_of(self, frame: RawFrame, rotation: Rotation, mirrored: bool) -> RawFrame:
        form = (frame.size, frame.pixel_format, frame.color, rotation, mirrored)
        kept = self._covering
        if kept.frame is None or kept.form != form:
            if isinstance(self.background, BackgroundImage):
                covering = cover(self.background.picture_rgb, upright_size(frame.size, rotation))
                picture_rgb = to_sent(covering, rotation, mirrored)
            elif isinstance(self.background, tuple):
                picture_rgb = solid(frame.size, self.background)
            else:
                raise TypeError(f"{self.background} covers nothing")
            kept.form, kept.frame = form, from_rgb(picture_rgb, frame.pixel_format, frame.color)
        return kept.frame


def check_composite(
    requested: RequestedComposite,
    input_format: PixelFormat,
    images: Mapping[str, BackgroundImage | BackgroundFile],
    complaints: list[tuple[str, str]],
    *,
    field: str = "config.composite",
    files: frozenset[PixelFormat] = frozenset({PixelFormat.JPEG}),
) -> CompositePlan | None:
    """The plan of a request; None, and complaints added with the fields at fault, where it is not acceptable.

    Args:
        requested: what the client wants.
        input_format: of the pictures sent, which may always be that of the finished ones.
        images: that the client may refer to, by their ids.
        complaints: get one more for each fault.
        field: where the composite stands in the message.
        files: the formats allowed beside the input's own.
    """
    before = len(complaints)
    background = _check_background(requested.background, images, complaints, field)
    picture_format = _check_format(requested, input_format, files, complaints, field)
    quality, softness = requested.jpeg_quality, requested.softness_percent
    if quality > 100:
        complaints.append((f"{field}.jpeg_quality", f"{quality} is out of range, allowed are 1 to 100"))
    elif quality and picture_format is not PixelFormat.JPEG:
        text = f"{quality} for pictures of {picture_format.name}; ask for picture_format JPEG, or leave it out"
        complaints.append((f"{field}.jpeg_quality", text))
    if softness > 100:
        text = f"{softness} is out of range, allowed are 1 to 100"
        complaints.append((f"{field}.edge_softness_percent", text))
    _check_edge(requested, complaints, field)
    if background is None or len(complaints) > before:
        return None
    return CompositePlan(
        background,
        picture_format,
        (quality or DEFAULT_JPEG_QUALITY) if picture_format is PixelFormat.JPEG else 0,
        softness or DEFAULT_SOFTNESS_PERCENT,
        requested.spread_ratio,
        requested.light_wrap_percent,
    )


def _check_edge(requested: RequestedComposite, complaints: list[tuple[str, str]], field: str) -> None:
    # Also refuses NaN. A float of the wire is not exactly the limit it stands for.
    if not 0 <= requested.spread_ratio <= LARGEST_SPREAD_RATIO + 1e-6:
        allowed = f"allowed are 0 to {100 * LARGEST_SPREAD_RATIO:g} % of the height"
        text = f"{100 * requested.spread_ratio:g} is out of range, {allowed}: all of it shows the real room"
        complaints.append((f"{field}.spread_percent", text))
    wrap = requested.light_wrap_percent
    if wrap > 100:
        text = f"{wrap} is out of range, allowed are 0 to 100"
        complaints.append((f"{field}.light_wrap_percent", text))
    elif wrap and isinstance(requested.background, Transparent):
        text = f"{wrap} with a transparent background, which gives no light; leave it out"
        complaints.append((f"{field}.light_wrap_percent", text))


def image_complaint(image_id: str, images: Mapping[str, BackgroundImage]) -> str | None:
    """What is wrong with one more image of this id, if anything."""
    if not (1 <= len(image_id) <= IMAGE_ID_LIMIT and image_id.isascii() and image_id.isprintable()):
        text = f"{image_id[:IMAGE_ID_LIMIT]!r} ({len(image_id)} characters) is no id"
        return f"{text}; allowed are 1 to {IMAGE_ID_LIMIT} printable ASCII characters"
    if image_id in images:
        return f"{image_id!r} was sent already and cannot be replaced; send the new image under another id"
    return None


def _check_background(
    background: "Blur | tuple[int, int, int] | str | Transparent | None",
    images: Mapping[str, BackgroundImage | BackgroundFile],
    complaints: list[tuple[str, str]],
    field: str,
) -> Background | None:
    match background:
        case None:
            complaints.append((f"{field}.background", "none is set; set blur, color, image_id or transparent"))
            return None
        case Blur():
            if background.ratio == 0:
                return Blur(BLUR_RATIO)
            # Also refuses NaN. A float of the wire is not exactly the limit it stands for.
            if not LEAST_BLUR_RATIO - 1e-6 <= background.ratio <= LARGEST_BLUR_RATIO + 1e-6:
                allowed = f"{100 * LEAST_BLUR_RATIO:g} to {100 * LARGEST_BLUR_RATIO:g} % of the height"
                text = (
                    f"{100 * background.ratio:g} is out of range, allowed are {allowed}, or 0 for {100 * BLUR_RATIO:g}"
                )
                complaints.append((f"{field}.blur.radius_percent", text))
                return None
            return background
        case str():
            found = images.get(background)
            if found is None:
                known = ", ".join(repr(image_id) for image_id in images) or "none"
                text = f"{background[:IMAGE_ID_LIMIT]!r} is not known in this stream, known are {known}"
                complaints.append((f"{field}.image_id", f"{text}; send it as background_image first"))
            return found
        case Transparent():
            return background
        case _:
            if max(background) > 255:
                text = f"{background} is out of range, allowed are 0 to 255 for each of red, green and blue"
                complaints.append((f"{field}.color", text))
            return background


def _check_format(
    requested: RequestedComposite,
    input_format: PixelFormat,
    files: frozenset[PixelFormat],
    complaints: list[tuple[str, str]],
    field: str,
) -> PixelFormat:
    transparent = isinstance(requested.background, Transparent)
    default = PixelFormat.PNG if transparent else input_format
    wanted = requested.picture_format or default
    allowed = {PixelFormat.PNG} if transparent else {input_format, *files}
    if wanted not in allowed:
        names = " or ".join(sorted(choice.name for choice in allowed))
        what = "a transparent background" if transparent else f"frames of {input_format.name}"
        text = f"{wanted.name} does not go with {what}; allowed is {names}"
        complaints.append((f"{field}.picture_format", text))
    return wanted
