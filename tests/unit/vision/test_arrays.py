"""Sizes: width first in words, height first in shapes."""

import numpy as np
import pytest

from humanseg.vision.arrays import Size


def test_width_first_in_words_height_first_in_shapes() -> None:
    size = Size(640, 360)
    assert str(size) == "640x360"
    assert size.shape == (360, 640)
    assert size.area_px == 230_400
    assert size.transposed == Size(360, 640)
    assert Size.of(np.zeros((360, 640, 3))) == size
    assert Size.of(np.zeros((360, 640))) == size


@pytest.mark.parametrize(("text", "size"), [("320x192", Size(320, 192)), ("1x1", Size(1, 1))])
def test_parse(text: str, size: Size) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "320", "320x", "x192", "0x192", "320x0", "-1x5", "3.5x2", "320x192x3", "axb", "320 x 192"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="for example 640x360") as caught:
        Size.parse(text)
    assert repr(text) in str(caught.value)
