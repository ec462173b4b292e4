"""The inverse is an inverse, and numpy turns the same way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from humanseg.vision.orientation import Rotation, to_sent, to_upright

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))


@settings(deadline=None, max_examples=60)
@given(array=arrays, rotation=st.sampled_from(Rotation), mirrored=st.booleans())
def test_there_and_back(array: NDArray[np.uint8], rotation: Rotation, mirrored: bool) -> None:
    upright = to_upright(array, rotation, mirrored)
    assert upright.flags.c_contiguous
    np.testing.assert_array_equal(to_sent(upright, rotation, mirrored), array)
    assert to_sent(upright, rotation, mirrored).flags.c_contiguous


@settings(deadline=None, max_examples=60)
@given(array=arrays, rotation=st.sampled_from(Rotation), mirrored=st.booleans())
def test_as_numpy_turns(array: NDArray[np.uint8], rotation: Rotation, mirrored: bool) -> None:
    # np.rot90 turns counter-clockwise.
    expected = np.rot90(array, -int(rotation) // 90)
    expected = np.fliplr(expected) if mirrored else expected
    np.testing.assert_array_equal(to_upright(array, rotation, mirrored), expected)
