"""Where the planes of a picture lie and what its levels mean, as a config, a frame or a still says it."""

from humanseg.frames import PACKED, Layout, PixelFormat, layout_complaint, layout_end_bytes
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.vision.arrays import Size


def check_layout(
    prefix: str,
    layout: Layout,
    pixel_format: PixelFormat,
    size: Size,
    max_frame_bytes: int,
    complaints: list[tuple[str, str]],
) -> None:
    """Hold a layout against format, size and limit; a complaint is added to ``complaints``. Both sides are positive."""
    if not layout:
        return
    complaint = layout_complaint(layout, pixel_format, size)
    if complaint is None and (end_bytes := layout_end_bytes(layout, pixel_format, size)) > max_frame_bytes:
        complaint = (
            f"end at {end_bytes} for {pixel_format.name} {size}, behind max_frame_bytes {max_frame_bytes};"
            " send smaller frames or less padding"
        )
    if complaint is not None:
        complaints.append((f"{prefix}planes", complaint))


def check_color(
    prefix: str,
    pixel_format: PixelFormat,
    matrix: ColorMatrix | None,
    levels: ColorRange | None,
    complaints: list[tuple[str, str]],
) -> YuvColor:
    """What I420 and NV12 mean, defaults filled in; what is said of another format is added to ``complaints``."""
    if not pixel_format.is_yuv:
        for field, choice in (("color_matrix", matrix), ("color_range", levels)):
            if choice is not None:
                text = f"{choice.name} for {pixel_format.name}, which is no YUV; leave it out"
                complaints.append((f"{prefix}{field}", text))
        return BT601_LIMITED
    return YuvColor(matrix or BT601_LIMITED.matrix, levels or BT601_LIMITED.range)


def layout_of_frame(said: Layout, size: Size, config_layout: Layout, config_size: Size) -> Layout:
    """Where a frame's planes lie: where it says itself, else as the config says for frames of its size."""
    return said or (config_layout if size == config_size else PACKED)
