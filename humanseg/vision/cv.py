"""The OpenCV calls of the project with narrow types: cv2's own stubs return "integer or floating" everywhere.

Only wrappers live here, no decisions. Importing this module keeps OpenCV on one thread: the service runs many
sessions at once, and a pool of OpenCV's own under each of them makes every frame later (measured: p99, not mean).
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Size

cv2.setNumThreads(1)


def resize_area(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Shrink by averaging (INTER_AREA); (H, W) or (H, W, C) uint8.

    A picture that is much larger is halved first, exactly: OpenCV does that step many times faster than any other.
    Each halving rounds once more; where the rest of the scale is no whole number, its weights are a little coarser.
    """
    while _may_be_halved(array, size):
        array = cast("NDArray[np.uint8]", cv2.resize(array, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return cast("NDArray[np.uint8]", cv2.resize(array, size, interpolation=cv2.INTER_AREA))


def _may_be_halved(array: NDArray[np.uint8], size: Size) -> bool:
    """Whether a whole number of times remains to be shrunk after it, or at least three times."""
    height, width = array.shape[:2]
    if height % 2 or width % 2:
        return False
    is_whole = height % (2 * size.height) == 0 and width % (2 * size.width) == 0
    remains = min(height / (2 * size.height), width / (2 * size.width))
    return bool(remains >= (2 if is_whole else 3))


def resize_linear(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Bilinear, half-pixel centers; (H, W) or (H, W, C) uint8."""
    return cast("NDArray[np.uint8]", cv2.resize(array, size, interpolation=cv2.INTER_LINEAR))


def resize_cubic(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Bicubic, half-pixel centers, saturating at 0 and 255; (H, W) or (H, W, C) uint8."""
    return cast("NDArray[np.uint8]", cv2.resize(array, size, interpolation=cv2.INTER_CUBIC))


def resize_area_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Shrink by averaging; (H, W) float32."""
    return cast("NDArray[np.float32]", cv2.resize(array, size, interpolation=cv2.INTER_AREA))


def resize_linear_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Bilinear, half-pixel centers; (H, W) float32."""
    return cast("NDArray[np.float32]", cv2.resize(array, size, interpolation=cv2.INTER_LINEAR))


def resize_cubic_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Bicubic, half-pixel centers; may overshoot the input's range, so clip; (H, W) float32."""
    return cast("NDArray[np.float32]", cv2.resize(array, size, interpolation=cv2.INTER_CUBIC))


def rgb_to_gray(picture_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 luma of an (H, W, 3) RGB picture, full range."""
    return cast("NDArray[np.uint8]", cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2GRAY))


def swap_rb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB to BGR and back, as a contiguous copy."""
    return cast("NDArray[np.uint8]", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def scale_to_u8(array: NDArray[np.float32], scale: float, offset: float = 0.0) -> NDArray[np.uint8]:
    """``round(|array * scale + offset|)`` saturated to 0..255, in one pass; float32 of any shape."""
    return cast("NDArray[np.uint8]", cv2.convertScaleAbs(array, alpha=scale, beta=offset))


def merge(*planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Interleave uint8 planes, (H, W) or themselves (H, W, C), to one (H, W, C) with all of their channels."""
    return cast("NDArray[np.uint8]", cv2.merge(planes))


def channel(array: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """One channel of (H, W, C) uint8 as a contiguous (H, W)."""
    return cast("NDArray[np.uint8]", cv2.extractChannel(array, index))


def affine_channels(array: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``matrix[:, :C] @ pixel + matrix[:, C]`` per pixel, rounded and saturated; (H, W, C) uint8 to (H, W, rows)."""
    return cast("NDArray[np.uint8]", cv2.transform(array, matrix))


def twice_as_large(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel of (H, W) or (H, W, C) uint8 repeated in both directions."""
    size = Size(2 * array.shape[1], 2 * array.shape[0])
    return cast("NDArray[np.uint8]", cv2.resize(array, size, interpolation=cv2.INTER_NEAREST))


def nv12_to_rgb(plane_y: NDArray[np.uint8], plane_uv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 limited range, Y below 16 read as 16; Y (H, W) of even size, UV (H/2, W/2, 2), to (H, W, 3) RGB."""
    return cast("NDArray[np.uint8]", cv2.cvtColorTwoPlane(plane_y, plane_uv, cv2.COLOR_YUV2RGB_NV12))


def least(array: NDArray[np.uint8]) -> int:
    """Smallest value of (H, W) uint8."""
    return int(cv2.minMaxLoc(array)[0])


def pad_to_even(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row and column of (H, W) or (H, W, C) where there is an odd number; itself if there is none."""
    down, right = array.shape[0] % 2, array.shape[1] % 2
    if not (down or right):
        return array
    return cast("NDArray[np.uint8]", cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_REPLICATE))


def decode_rgb(file: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The picture in the bytes of a file as (H, W, 3) uint8 RGB, not turned, without transparency; None if broken."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cast("NDArray[np.uint8] | None", cv2.imdecode(file, flags))


def channel_f32_into(target: NDArray[np.float32], array: NDArray[np.float32], index: int) -> None:
    """One channel of (H, W, C) float32 into a contiguous (H, W) that is there already."""
    cv2.extractChannel(array, index, dst=target)


def scale_add(array: NDArray[np.float32], scale: float, offset: float) -> NDArray[np.float32]:
    """``array * scale + offset``, float32, into a new array."""
    scaled = array * np.float32(scale)
    scaled += np.float32(offset)
    return scaled


def exp_f32(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """e to the power of each value, float32; four times as fast as numpy's."""
    return cast("NDArray[np.float32]", cv2.exp(array))


def mean(array: NDArray[np.float32]) -> float:
    """Mean of an (H, W) float32 array."""
    return float(cv2.mean(array)[0])


def box3_f32(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each 3x3 neighborhood, mirrored at the border; (H, W) float32."""
    return cast("NDArray[np.float32]", cv2.blur(array, (3, 3)))


def gauss3_f32(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """3x3 Gaussian (1, 2, 1) / 4 both ways, mirrored at the border; (H, W) float32."""
    return cast("NDArray[np.float32]", cv2.GaussianBlur(array, (3, 3), 0))


def remap_f32(
    array: NDArray[np.float32], source_x: NDArray[np.float32], source_y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sample (H, W, C) float32 bilinearly at the (h, w) places x and y, the border repeated; (h, w, C).

    Two maps and not one of two channels: with that one, OpenCV 5.0.0 answers garbage for all but two channels.
    """
    remapped = cv2.remap(array, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast("NDArray[np.float32]", remapped)


def remap_f32_into(
    target: NDArray[np.float32],
    array: NDArray[np.float32],
    source_x: NDArray[np.float32],
    source_y: NDArray[np.float32],
) -> None:
    """`remap_f32` into a contiguous (h, w, C) array that is there already."""
    cv2.remap(array, source_x, source_y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)


def dis_flow(gray: NDArray[np.uint8], gray_to: NDArray[np.uint8], finest_scale: int) -> NDArray[np.float32]:
    """(H, W, 2) float32: by how many pixels in x and y each pixel of ``gray`` lies elsewhere in ``gray_to``.

    DIS (Kroeger 2016), preset ultrafast. A fresh object every time: keeping one saves 0.01 ms and would hold its
    pyramids for as long as the session waits.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(finest_scale)
    # The third argument must not have the flow's size: OpenCV would take what is in it for a first guess, and with an
    # uninitialized array the answer differed from call to call, or the process died.
    return cast("NDArray[np.float32]", dis.calc(gray, gray_to, np.empty(0, np.float32)))


def warp_affine(
    array: NDArray[np.uint8], matrix: NDArray[np.float64], size: Size, *, border: int | tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Map (H, W[, C]) uint8 through a (2, 3) matrix onto ``size``, bilinear, the constant ``border`` outside."""
    value = border if isinstance(border, tuple) else (border, border, border)
    return cast(
        NDArray[np.uint8],
        cv2.warpAffine(array, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=value),
    )


def gauss(array: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Gaussian blur of uint8, mirrored at the border."""
    return cast("NDArray[np.uint8]", cv2.GaussianBlur(array, (0, 0), sigma_px))


def box_f32(array: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """Mean of each neighborhood of ``side_px`` a side, mirrored at the border; (H, W[, C]) float32."""
    return cast("NDArray[np.float32]", cv2.blur(array, (side_px, side_px)))


def erode(array: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Least value of each square neighborhood of ``side_px`` a side."""
    return cast("NDArray[np.uint8]", cv2.erode(array, np.ones((side_px, side_px), np.uint8)))


def dilate(array: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Greatest value of each square neighborhood of ``side_px`` a side."""
    return cast("NDArray[np.uint8]", cv2.dilate(array, np.ones((side_px, side_px), np.uint8)))


def dilate_disc_f32(array: NDArray[np.float32], radius_px: int) -> NDArray[np.float32]:
    """Greatest value of each disc, all centers within ``radius_px``; (H, W) float32, nothing beyond the border."""
    reach = np.arange(-radius_px, radius_px + 1) ** 2
    disc = (reach[:, None] + reach <= radius_px**2).astype(np.uint8)
    return cast("NDArray[np.float32]", cv2.dilate(array, disc))


def multiply_levels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``one * other / 255``, rounded; (H, W) uint8."""
    return cast("NDArray[np.uint8]", cv2.multiply(one, other, scale=1 / 255))


def threshold(array: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    """255 where (H, W) uint8 is above ``level``, else 0."""
    return cast("NDArray[np.uint8]", cv2.threshold(array, level, 255, cv2.THRESH_BINARY)[1])


def histogram(array: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(256,) float32: how often each value occurs in (H, W) uint8."""
    return cast("NDArray[np.float32]", cv2.calcHist([array], [0], None, [256], [0, 256]).ravel())


def look_up(picture: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each value of (H, W, C) uint8 replaced by what the (256, C) uint8 table says for its channel."""
    return cast("NDArray[np.uint8]", cv2.LUT(picture, table[np.newaxis]))


def look_up_levels(array: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each value of (H, W) uint8 replaced by what the (256,) uint8 table says."""
    return cast(NDArray[np.uint8], cv2.LUT(array, table))


def look_up_levels_f32(array: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Like `look_up_levels`, with a (256,) float32 table."""
    return cast(NDArray[np.float32], cv2.LUT(array, table))


def weighted_with_weight(colors: NDArray[np.uint8], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 times (H, W) float32, and the weight itself as the fourth channel: (H, W, 4) float32."""
    parts = [cv2.multiply(cv2.extractChannel(colors, index), weight, dtype=cv2.CV_32F) for index in range(3)]
    return cast(NDArray[np.float32], cv2.merge([*parts, weight]))


def divided_by_last(array: NDArray[np.float32], tiny: float, otherwise: NDArray[np.float64]) -> NDArray[np.uint8]:
    """``(c + tiny * otherwise) / (w + tiny)`` of (H, W, 4) float32 c, c, c, w; (H, W, 3) uint8, rounded, saturated."""
    weight = array[:, :, 3] + np.float32(tiny)
    parts = [
        cv2.divide(array[:, :, index] + np.float32(tiny * otherwise[index]), weight, dtype=cv2.CV_8U)
        for index in range(3)
    ]
    return cast(NDArray[np.uint8], cv2.merge(parts))


def means(array: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float64]:
    """(C,) mean of each channel of (H, W, C), up to four of them."""
    return np.array(cv2.mean(array)[: array.shape[2]])


def copy_where(target: NDArray[np.uint8], source: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Copy the pixels of (H, W[, C]) uint8 at which (H, W) ``mask`` is True into a contiguous array of that shape."""
    cv2.copyTo(source, mask.view(np.uint8), target)


def look_up_f32(picture: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Like `look_up`, with a (256, C) float32 table."""
    return cast("NDArray[np.float32]", cv2.LUT(picture, table[np.newaxis]))


def mix_channels_f32(picture: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """``matrix @ pixel`` for each pixel of (H, W, C) float32."""
    return cast("NDArray[np.float32]", cv2.transform(picture, matrix))


def mean_and_spread(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Mean of each channel of (H, W, C) uint8, and the standard deviation of all values together, where mask > 0."""
    means, deviations = cv2.meanStdDev(picture, mask=mask)
    mean_of_squares = float((deviations**2 + means**2).mean())
    return np.asarray(means, np.float64).ravel(), float(np.sqrt(max(0.0, mean_of_squares - float(means.mean()) ** 2)))


def blend(front: NDArray[np.uint8], behind: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``front`` before ``behind``, both (H, W, 3) uint8, by an (H, W) uint8 alpha; rounded."""
    weight = alpha.astype(np.float32) * np.float32(1 / 255)
    return cast("NDArray[np.uint8]", cv2.blendLinear(front, behind, weight, np.float32(1) - weight))


def distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Euclidean distance in pixels of each pixel to the nearest True one; (H, W), at least one of them True."""
    return cast("NDArray[np.float32]", cv2.distanceTransform(np.uint8(1) - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def parts(mask: NDArray[np.bool_]) -> list[int]:
    """Areas in pixels of the connected parts of an (H, W) mask, diagonal neighbors joined; in no order."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas: list[int] = stats[1:, cv2.CC_STAT_AREA].tolist()
    return areas


def label_parts(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(H, W): the number of the connected part that each pixel belongs to, 0 where the mask is False."""
    return cast("NDArray[np.int32]", cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[1])


def measure_parts(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The connected parts of an (H, W) mask, diagonal neighbors joined: labels, areas, centers.

    (H, W) labels, 1, 2, ... and 0 where the mask is False; for each label, 0 included, its (N,) area in pixels and its
    (N, 2) center of gravity, x before y. `label_parts` is seven times as fast.
    """
    _, labels, stats, centers = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    return cast("NDArray[np.int32]", labels), cast("NDArray[np.int32]", areas), cast("NDArray[np.float64]", centers)


def filter2d(array: NDArray[np.uint8], kernel: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Correlate uint8 with a small kernel, mirrored at the border."""
    return cast("NDArray[np.uint8]", cv2.filter2D(array, -1, kernel))


def jpeg_round_trip(picture_rgb: NDArray[np.uint8], quality_percent: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB with the marks that JPEG of that quality leaves, chroma halved."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality_percent]
    _, file = cv2.imencode(".jpg", cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2BGR), flags)
    return cast("NDArray[np.uint8]", cv2.imdecode(file, cv2.IMREAD_COLOR_RGB))


def read_gray(file: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The picture in the bytes of a file as (H, W) uint8; None if broken."""
    return cast("NDArray[np.uint8] | None", cv2.imdecode(file, cv2.IMREAD_GRAYSCALE))


def gauss_f32(array: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian blur, mirrored at the border; (H, W[, C]) float32."""
    return cast("NDArray[np.float32]", cv2.GaussianBlur(array, (0, 0), sigma_px))


def text_size(text: str, scale: float) -> Size:
    """Width and height in pixels of what `draw_text` draws, without descenders."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    return Size(width, height)


def draw_text(
    picture_rgb: NDArray[np.uint8], text: str, left: int, baseline: int, scale: float, color: tuple[int, int, int]
) -> None:
    """Write ASCII text onto an (H, W, 3) picture, in place; at scale 1 a capital is 22 px high."""
    cv2.putText(
        picture_rgb, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, color, thickness=1, lineType=cv2.LINE_AA
    )


def encode_png_rgba(picture_rgba: NDArray[np.uint8]) -> bytes:
    """(H, W, 4) uint8 RGBA as a PNG file, packed fast rather than well."""
    _, file = cv2.imencode(".png", cv2.cvtColor(picture_rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return file.tobytes()


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """(H, W) gray or (H, W, 3) RGB uint8 as a PNG file."""
    ordered = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, file = cv2.imencode(".png", ordered)
    return file.tobytes()
