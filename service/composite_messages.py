"""The messages about finished pictures, to plain objects and back."""

from humanseg.proto_enums import PIXEL_FORMAT, UnknownChoiceError
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.composite_planes import Blur
from humanseg.vision.decode import DecodeError, TooLargeError, decode_picture
from service.call_errors import CallError, Reason, invalid
from service.compositing import BackgroundImage, CompositePlan, RequestedComposite, Transparent
from service.stream_config import SizeLimits


def requested_composite(
    message: pb.Composite, unknown: list[tuple[str, str]], field: str = "config.composite"
) -> RequestedComposite:
    """A composite as sent; enum values that are not known here are added to ``unknown``."""
    try:
        picture_format = PIXEL_FORMAT.choice(message.picture_format)
    except UnknownChoiceError as error:
        unknown.append((f"{field}.picture_format", str(error)))
        picture_format = None
    background: Blur | tuple[int, int, int] | str | Transparent | None
    match message.WhichOneof("background"):
        case "blur":
            background = Blur(message.blur.radius_percent / 100)
        case "color":
            background = (message.color.red, message.color.green, message.color.blue)
        case "image_id":
            background = message.image_id
        case "transparent":
            background = Transparent()
        case _:
            background = None
    return RequestedComposite(
        background,
        picture_format,
        message.jpeg_quality,
        message.edge_softness_percent,
        message.spread_percent / 100,
        message.light_wrap_percent,
    )


def composite_message(plan: CompositePlan) -> pb.Composite:
    """A composite that holds, every default filled in."""
    message = pb.Composite(
        picture_format=PIXEL_FORMAT.number(plan.picture_format),
        jpeg_quality=plan.jpeg_quality,
        edge_softness_percent=plan.softness_percent,
        spread_percent=plan.spread_ratio * 100,
        light_wrap_percent=plan.light_wrap_percent,
    )
    match plan.background:
        case Blur():
            message.blur.radius_percent = plan.background.ratio * 100
        case BackgroundImage():
            message.image_id = plan.background.image_id
        case Transparent():
            message.transparent.SetInParent()
        case (red, green, blue):
            message.color.CopyFrom(pb.Composite.Color(red=red, green=green, blue=blue))
    return message


def decode_image(
    image_id: str, file: bytes, limits: SizeLimits, field: str = "background_image.file"
) -> BackgroundImage:
    """Decode an uploaded image once its header has passed the limits. Costs milliseconds: for a thread.

    ``field`` is where the file stands in the message.

    Raises:
        CallError: LIMIT_EXCEEDED or PICTURE_INVALID.
    """
    if len(file) > limits.max_frame_bytes:
        raise CallError(
            Reason.LIMIT_EXCEEDED,
            f"background image of {len(file)} bytes exceeds max_frame_bytes {limits.max_frame_bytes}; send it smaller",
            metadata={"max_frame_bytes": str(limits.max_frame_bytes)},
        )
    try:
        return BackgroundImage(image_id, decode_picture(file, limits.max_frame_px, limits.max_side_px, exif=True))
    except TooLargeError as error:
        limit = {"max_frame_px": str(limits.max_frame_px), "max_side_px": str(limits.max_side_px)}
        raise CallError(Reason.LIMIT_EXCEEDED, f"background image: {error}", metadata=limit) from None
    except DecodeError as error:
        fields = [(field, str(error))]
        raise invalid(Reason.PICTURE_INVALID, "background image cannot be read", fields) from None
