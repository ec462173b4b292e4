"""What a config, a frame or a still says of its planes and levels."""

import pytest

from humanseg.frames import PACKED, PixelFormat, PlaneLayout
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.vision.arrays import Size
from service.picture_form import check_color, check_layout, layout_of_frame

SIZE = Size(5, 3)
LAYOUT = (PlaneLayout(0, 8), PlaneLayout(24, 4), PlaneLayout(32, 4))
END_BYTES = 39


@pytest.mark.parametrize("limit", [END_BYTES, END_BYTES - 1])
def test_a_layout_may_reach_to_the_limit(limit: int) -> None:
    complaints: list[tuple[str, str]] = []
    check_layout("config.", LAYOUT, PixelFormat.I420, SIZE, limit, complaints)
    if limit == END_BYTES:
        assert not complaints
    else:
        text = "end at 39 for I420 5x3, behind max_frame_bytes 38; send smaller frames or less padding"
        assert complaints == [("config.planes", text)]


def test_no_layout_is_no_complaint_for_any_format() -> None:
    complaints: list[tuple[str, str]] = []
    for pixel_format in PixelFormat:
        check_layout("", PACKED, pixel_format, SIZE, 0, complaints)
    assert not complaints


def test_a_layout_that_cannot_be_is_named_with_its_field() -> None:
    complaints = [("size", "an earlier one")]
    check_layout("", LAYOUT[:2], PixelFormat.I420, SIZE, 10**6, complaints)
    check_layout("", LAYOUT, PixelFormat.PNG, SIZE, 10**6, complaints)
    assert [field for field, _ in complaints] == ["size", "planes", "planes"]
    assert "2 planes for I420" in complaints[1][1]
    assert "which is a file" in complaints[2][1]


@pytest.mark.parametrize(
    ("matrix", "levels", "wanted"),
    [
        (None, None, BT601_LIMITED),
        (ColorMatrix.BT709, None, YuvColor(ColorMatrix.BT709, ColorRange.LIMITED)),
        (None, ColorRange.FULL, YuvColor(ColorMatrix.BT601, ColorRange.FULL)),
        (ColorMatrix.BT709, ColorRange.FULL, YuvColor(ColorMatrix.BT709, ColorRange.FULL)),
    ],
)
def test_what_yuv_means(matrix: ColorMatrix | None, levels: ColorRange | None, wanted: YuvColor) -> None:
    complaints: list[tuple[str, str]] = []
    for pixel_format in (PixelFormat.I420, PixelFormat.NV12):
        assert check_color("", pixel_format, matrix, levels, complaints) == wanted
    assert not complaints


@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.JPEG, PixelFormat.PNG])
def test_what_is_no_yuv_has_neither(pixel_format: PixelFormat) -> None:
    complaints: list[tuple[str, str]] = []
    check_color("config.", pixel_format, ColorMatrix.BT601, ColorRange.LIMITED, complaints)
    assert complaints == [
        ("config.color_matrix", f"BT601 for {pixel_format.name}, which is no YUV; leave it out"),
        ("config.color_range", f"LIMITED for {pixel_format.name}, which is no YUV; leave it out"),
    ]
    complaints.clear()
    assert check_color("config.", pixel_format, None, None, complaints) == BT601_LIMITED
    assert not complaints


def test_a_config_speaks_for_frames_of_its_own_size_alone() -> None:
    other = (PlaneLayout(0, 99), *LAYOUT[1:])
    assert layout_of_frame(PACKED, SIZE, LAYOUT, SIZE) == LAYOUT
    assert layout_of_frame(PACKED, Size(6, 3), LAYOUT, SIZE) == PACKED
    assert layout_of_frame(other, SIZE, LAYOUT, SIZE) == other
    assert layout_of_frame(other, Size(6, 3), LAYOUT, SIZE) == other
