"""Turning and mirroring, on a drawn picture and against numpy."""

import numpy as np
import pytest

from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation, to_sent, to_upright, upright_size


def test_a_clockwise_quarter_turn_is_what_the_words_say() -> None:
    # The camera was turned, so the head points left in what was sent; a quarter turn clockwise brings it up.
    sent = np.array([[0, 0, 0], [9, 5, 5], [0, 0, 0]])
    upright = to_upright(sent, Rotation.DEG_90, False)
    assert upright.tolist() == [[0, 9, 0], [0, 5, 0], [0, 5, 0]]


def test_the_flip_comes_after_the_turn() -> None:
    sent = np.array([[1, 2], [3, 4]])
    assert to_upright(sent, Rotation.DEG_90, True).tolist() == [[1, 3], [2, 4]]
    assert to_upright(sent, Rotation.DEG_0, True).tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize("rotation", list(Rotation))
def test_sizes(rotation: Rotation) -> None:
    array = np.zeros((3, 5, 2), np.uint8)
    assert Size.of(to_upright(array, rotation, True)) == upright_size(Size(5, 3), rotation)
    assert upright_size(Size(5, 3), Rotation.DEG_270) == Size(3, 5)
    assert upright_size(Size(5, 3), Rotation.DEG_180) == Size(5, 3)


def test_nothing_to_do_is_free() -> None:
    array = np.zeros((3, 5), np.uint8)
    assert to_upright(array, Rotation.DEG_0, False) is array
    assert to_sent(array, Rotation.DEG_0, False) is array
