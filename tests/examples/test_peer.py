"""The rates that examples/peer.py gives of its call."""

import pytest

pytest.importorskip("aiortc", reason="needs aiortc: pip install -e '.[examples]'")

from examples.peer import rates

#: A power of two: the times below are exact.
FPS = 32


def even(first_s: int, last_s: int) -> list[tuple[float, int]]:
    """When pictures came back, ten frames after they were sent."""
    return [(first_s + number / FPS, 10 + number) for number in range((last_s - first_s) * FPS)]


def test_the_first_second_counts_for_what_was_sent_only() -> None:
    late = [one for one in even(5, 15) if not 5.2 < one[0] < 5.9]
    assert rates(late, (15.0, 10 + 10 * FPS)) == {"sent_fps": FPS, "back_fps": FPS}


def test_a_video_that_stands_still_counts_as_none() -> None:
    assert rates(even(0, 6), (11.0, 10 + 11 * FPS)) == {"sent_fps": FPS, "back_fps": FPS / 2}


@pytest.mark.parametrize("arrivals", [[], even(10, 11)])
def test_a_call_that_ended_in_the_first_second_has_no_rates(arrivals: list[tuple[float, int]]) -> None:
    assert rates(arrivals, (11.0, 40)) == {}
