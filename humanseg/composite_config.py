"""Finished pictures instead of masks: what stands behind the people, and how the pictures come back."""

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

from humanseg.frames import PixelFormat
from humanseg.proto_enums import PIXEL_FORMAT
from humanseg.v1 import segmentation_pb2 as pb


@dataclass(frozen=True, slots=True)
class BlurBackground:
    """The room itself, out of focus; sigma is ``radius_ratio`` times the frame's height, 0.03 to 0.2."""

    radius_ratio: float = 0.036


@dataclass(frozen=True, slots=True)
class ColorBackground:
    """One color, each part 0 to 255."""

    red: int
    green: int
    blue: int


@dataclass(frozen=True, slots=True)
class ImageBackground:
    """An image, scaled to cover the frame and cut to it.

    Attributes:
        file: a JPEG or 8-bit PNG file. The client sends it once in a stream, before the config that needs it. Empty:
            one of that id was sent before.
        image_id: its name in the stream; made of the file where it is left out.
    """

    file: bytes = field(default=b"", repr=False)
    image_id: str = ""

    def __post_init__(self) -> None:
        if not (self.file or self.image_id):
            raise ValueError("an image needs its file, or the image_id of one that was sent before")
        if not self.image_id:
            object.__setattr__(self, "image_id", hashlib.sha256(self.file).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class TransparentBackground:
    """None: pictures are PNG files with transparency."""


Background: TypeAlias = BlurBackground | ColorBackground | ImageBackground | TransparentBackground


@dataclass(frozen=True, slots=True)
class Composite:
    """For `SessionConfig.composite`: answers are `PictureAnswer` instead of `MaskAnswer`.

    A frame that the network did not see is `Dropped`, and has no picture: the real background is never sent. Show the
    picture before, or the background.

    Attributes:
        background: what stands behind the people.
        picture_format: the frames' own, or JPEG; None for the frames' own (PNG where the background is transparent).
        jpeg_quality: 1 to 100, for JPEG only; 0 leaves it to the server.
        edge_softness_percent: how much of the mask's soft edge is kept, 1 to 100; 0 leaves it to the server.
        spread_percent: how far the mask is spread outwards, in percent of the frame's height, at most 2. It shows a rim
            of the real room as wide as that.
        light_wrap_percent: how much of the new background's light falls on the people's edge, at most 100; not where
            it is transparent.
    """

    background: Background
    picture_format: PixelFormat | None = None
    jpeg_quality: int = 0
    edge_softness_percent: int = 0
    spread_percent: float = 0.0
    light_wrap_percent: int = 0

    def __post_init__(self) -> None:
        color = self.background
        parts = (color.red, color.green, color.blue) if isinstance(color, ColorBackground) else ()
        # What is too large is for the server to name; what is negative does not go over the wire.
        if min(*parts, self.jpeg_quality, self.edge_softness_percent, self.light_wrap_percent, 0) < 0:
            text = "color, jpeg_quality, edge_softness_percent and light_wrap_percent must not be negative"
            raise ValueError(f"{self}: {text}")

    def to_message(self) -> pb.Composite:
        """As it goes over the wire."""
        message = pb.Composite(
            picture_format=PIXEL_FORMAT.number(self.picture_format),
            jpeg_quality=self.jpeg_quality,
            edge_softness_percent=self.edge_softness_percent,
            spread_percent=self.spread_percent,
            light_wrap_percent=self.light_wrap_percent,
        )
        match self.background:
            case BlurBackground(radius_ratio=ratio):
                message.blur.radius_percent = ratio * 100
            case ColorBackground(red=red, green=green, blue=blue):
                message.color.CopyFrom(pb.Composite.Color(red=red, green=green, blue=blue))
            case ImageBackground(image_id=image_id):
                message.image_id = image_id
            case TransparentBackground():
                message.transparent.SetInParent()
        return message

    @classmethod
    def from_message(cls, message: pb.Composite) -> "Composite":
        """Read the server's echo, in which every default is filled in; an image is there by its id alone.

        Raises:
            ValueError: a background that this release cannot have asked for.
        """
        background: Background
        match message.WhichOneof("background"):
            case "blur":
                background = BlurBackground(round(message.blur.radius_percent / 100, 6))
            case "color":
                background = ColorBackground(message.color.red, message.color.green, message.color.blue)
            case "image_id":
                background = ImageBackground(image_id=message.image_id)
            case "transparent":
                background = TransparentBackground()
            case _:
                raise ValueError("the composite has no background of a kind known here")
        picture_format = PIXEL_FORMAT.choice(message.picture_format)
        return cls(
            background,
            picture_format,
            message.jpeg_quality,
            message.edge_softness_percent,
            round(message.spread_percent, 4),
            message.light_wrap_percent,
        )


class ImagesSent:
    """Which images a stream has sent already."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def before(self, composite: Composite | None) -> pb.StreamSegmentRequest | None:
        """The message that must go out before a config with this composite, if any; it counts as sent."""
        if composite is None or not isinstance(composite.background, ImageBackground):
            return None
        image = composite.background
        # Another file under a known id is sent, for the server to refuse.
        if not image.file or self._files.get(image.image_id) == image.file:
            return None
        self._files[image.image_id] = image.file
        return pb.StreamSegmentRequest(background_image=pb.BackgroundImage(image_id=image.image_id, file=image.file))
