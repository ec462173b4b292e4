"""Who is the main person, and for how long: drawn people, one situation each."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from humanseg.vision.arrays import Alpha
from humanseg.vision.main_person import PATIENCE_FRAMES, MainPersonState, keep_main

SHAPE = (96, 160)
Disc = tuple[int, int, int]
"""x, y, radius."""
MIDDLE: Disc = (80, 48, 16)
LEFT: Disc = (20, 48, 14)


def people(*discs: Disc, alpha: float = 1.0) -> Alpha:
    drawn = np.zeros(SHAPE, np.float32)
    for x, y, radius in discs:
        cv2.circle(drawn, (x, y), radius, alpha, -1)
    return drawn


def shown(frames: Sequence[Alpha], state: MainPersonState | None = None) -> Iterator[Alpha]:
    now = state or MainPersonState()
    for alpha in frames:
        kept, now = keep_main(alpha, now)
        yield kept


def shows(kept: Alpha, disc: Disc) -> bool:
    return bool(kept[disc[1], disc[0]])


def test_the_larger_one_is_kept() -> None:
    small, large = (40, 48, 10), (120, 48, 14)
    (kept,) = shown([people(small, large)])
    assert (kept == people(large)).all()


def test_the_middle_counts_more() -> None:
    beside = (18, 14, 16)
    (kept,) = shown([people(MIDDLE, beside)])
    assert (kept == people(MIDDLE)).all()
    (kept,) = shown([people((80, 48, 13), beside)])
    assert shows(kept, MIDDLE), "two thirds of the area in the middle weigh more than the whole in a corner"


def test_what_an_arm_encloses_stays_background() -> None:
    """An arm on the hip: the room shows through, and so does a passer-by behind it, who goes."""
    alpha = people(MIDDLE)
    cv2.circle(alpha, (108, 48), 16, 1.0, 4)
    alone, _ = keep_main(alpha, MainPersonState())
    assert alone[48, 108] == 0
    assert (alone == alpha).all()
    behind = alpha.copy()
    cv2.circle(behind, (108, 48), 5, 1.0, -1)
    kept, _ = keep_main(behind, MainPersonState())
    assert (kept == alpha).all()


def test_a_faint_ghost_goes_too() -> None:
    (kept,) = shown([np.maximum(people(MIDDLE), people(LEFT, alpha=0.4))])
    assert (kept == people(MIDDLE)).all()


def test_a_shared_rim_is_cut_half_way() -> None:
    alpha = np.full(SHAPE, 0.3, np.float32)
    alpha[:, :71], alpha[:, 100:] = 1.0, 1.0
    (kept,) = shown([alpha])
    # 70 is the last column of the larger one, 100 the first of the other: 85 is as far from both, and nobody's.
    assert (kept[:, :85] == alpha[:, :85]).all()
    assert not kept[:, 85:].any()


def test_what_hangs_on_him_by_another_only_goes() -> None:
    """A soft streak of the other one above his head, nearer to him than to the other."""
    alpha = np.zeros(SHAPE, np.float32)
    alpha[50, 60:110] = 0.3
    alpha[20, 20:111], alpha[20:40, 110] = 0.3, 0.3
    alpha[40:70, 10:60], alpha[40:60, 100:120] = 1.0, 1.0
    (kept,) = shown([alpha])
    assert (kept[40:70, :60] == alpha[40:70, :60]).all()
    assert not kept[20].any()


def test_the_soft_rim_stays() -> None:
    soft = cv2.GaussianBlur(people(MIDDLE), (0, 0), 3)
    (kept,) = shown([np.maximum(soft, people(LEFT))])
    assert np.abs(kept - soft).max() <= 0.02


def test_somebody_larger_takes_the_part_after_some_frames_only() -> None:
    intruder = (30, 48, 26)
    frames = [people(MIDDLE)] + [people(MIDDLE, intruder)] * (PATIENCE_FRAMES + 2)
    answers = list(shown(frames))
    assert [shows(kept, intruder) for kept in answers] == [False] * PATIENCE_FRAMES + [True] * 3
    assert [shows(kept, MIDDLE) for kept in answers] == [True] * PATIENCE_FRAMES + [False] * 3


def test_leaning_in_again_and_again_takes_nothing() -> None:
    intruder = (30, 48, 26)
    leans_in = [people(MIDDLE, intruder)] * (PATIENCE_FRAMES - 1)
    answers = list(shown([people(MIDDLE), *leans_in, people(MIDDLE), *leans_in]))
    assert not any(shows(kept, intruder) for kept in answers)


def test_somebody_only_a_little_larger_never_does() -> None:
    beside = (30, 48, 20)
    answers = list(shown([people(MIDDLE)] + [people(MIDDLE, beside)] * (3 * PATIENCE_FRAMES)))
    assert not any(shows(kept, beside) for kept in answers)


def test_a_frame_that_misses_the_main_person_uncovers_nobody() -> None:
    small = (20, 48, 8)
    both, missed = people(MIDDLE, small), people(small)
    answers = list(shown([both, missed, both]))
    assert not answers[1].any()
    assert (answers[2] == people(MIDDLE)).all()


def test_when_the_main_person_has_gone_another_follows_in_the_end() -> None:
    small = (20, 48, 8)
    answers = list(shown([people(MIDDLE, small)] + [people(small)] * (PATIENCE_FRAMES + 1)))
    assert [shows(kept, small) for kept in answers] == [False] * PATIENCE_FRAMES + [True] * 2
    empty = list(shown([people(MIDDLE)] + [people()] * PATIENCE_FRAMES + [people(small)]))
    assert shows(empty[-1], small)


def test_a_speck_where_he_was_is_not_he() -> None:
    speck = (80, 48, 3)
    answers = list(shown([people(MIDDLE), people(speck)]))
    assert not answers[1].any()


def test_the_main_person_is_followed_across_the_picture() -> None:
    walk = [people((20 + 6 * step, 48, 14), (80, 86, 9)) for step in range(20)]
    for step, kept in enumerate(shown(walk)):
        assert (kept == people((20 + 6 * step, 48, 14))).all(), step


def test_one_who_jumps_is_the_same_one() -> None:
    small = (80, 86, 9)
    answers = list(shown([people(MIDDLE, small), people(LEFT, small)]))
    assert (answers[1] == people(LEFT)).all()


def test_what_does_not_fit_is_refused() -> None:
    _, state = keep_main(people(MIDDLE), MainPersonState())
    with pytest.raises(ValueError, match=r"alpha \(96, 80\) after a frame of \(96, 160\)"):
        keep_main(np.zeros((96, 80), np.float32), state)
    with pytest.raises(ValueError, match="float32"):
        keep_main(np.zeros(SHAPE, np.uint8), MainPersonState())  # type: ignore[arg-type]
