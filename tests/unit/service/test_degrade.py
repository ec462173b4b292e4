"""The degrade ladder: down under load, up again in calm, and never up and down all the time."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.options import Degradation, Estimates, FramePolicy
from service.degrade import Fate, Ladder, LadderRules, Rung, rungs
from service.stream_config import ConfigDefaults, RequestedConfig, StreamConfig
from service.stream_protocol import StreamProtocol
from unit.service.test_stream_protocol import LIMITS, Models

S = 1_000_000_000
RULES = LadderRules()
LONGEST_CALM_S = RULES.longest_calm_factor * RULES.calm_ns // S
ALL = (Rung("large"), Rung("medium"), Rung("small"), Rung("small", every_second=True))


def config(degrades: bool = True, **fields: object) -> StreamConfig:
    protocol = StreamProtocol(Models(), LIMITS, ConfigDefaults(degrades=degrades))
    protocol.receive_config(RequestedConfig(width=64, height=36, **fields))  # type: ignore[arg-type]
    assert protocol.config is not None
    return protocol.config


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Degradation.MODEL),
        ({"estimates": Estimates.SUPERSEDED}, Degradation.MODEL_AND_RATE),
        ({"estimates": Estimates.SUPERSEDED, "degradation": Degradation.MODEL}, Degradation.MODEL),
        ({"degradation": Degradation.MODEL_AND_RATE}, Degradation.MODEL_AND_RATE),
        ({"degradation": Degradation.OFF}, Degradation.OFF),
        ({"degradation": Degradation.MODEL, "policy": FramePolicy.EVERY}, Degradation.OFF),
        ({"degradation": Degradation.MODEL, "degrades": False}, Degradation.OFF),
    ],
)
def test_what_a_config_allows(fields: dict[str, object], expected: Degradation) -> None:
    assert config(**fields).degradation is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "served", "degradation", "expected"),
    [
        ("large", ("large", "medium", "small"), Degradation.MODEL_AND_RATE, ALL),
        ("large", ("large", "medium", "small"), Degradation.MODEL, ALL[:3]),
        ("large", ("large", "small"), Degradation.MODEL, (ALL[0], ALL[2])),
        ("medium", ("medium", "large"), Degradation.MODEL, (ALL[1],)),
        ("medium", ("medium",), Degradation.MODEL_AND_RATE, (ALL[1], Rung("medium", every_second=True))),
        ("other", ("other", "small"), Degradation.MODEL_AND_RATE, (Rung("other"), Rung("other", every_second=True))),
        ("large", ("large", "medium", "small"), Degradation.OFF, ALL[:1]),
    ],
)
def test_the_rungs_are_the_smaller_models_that_are_served(
    model: str, served: tuple[str, ...], degradation: Degradation, expected: tuple[Rung, ...]
) -> None:
    assert rungs(replace(config(), model=model, degradation=degradation), served) == expected


def ladder(jitter: float = 0.0) -> Ladder:
    made = Ladder(RULES, jitter)
    assert not made.configure(ALL)
    return made


def play(on: Ladder, struggles: list[bool], from_ns: int, fps: int = 30) -> list[tuple[int, int]]:
    """The levels that it went to, and when."""
    changes = []
    for number, struggled in enumerate(struggles):
        now_ns = from_ns + number * S // fps
        if on.saw(Fate.LATE if struggled else Fate.MASK, now_ns):
            changes.append((now_ns, on.level))
    return changes


def push_down(on: Ladder, from_ns: int) -> int:
    """Struggle until it goes down a rung; when that was."""
    now_ns = from_ns
    while not on.saw(Fate.LATE, now_ns):
        now_ns += S // 30
    return now_ns


def test_down_step_by_step_while_it_struggles_and_up_again_in_calm() -> None:
    stream = ladder()
    down = play(stream, [True] * 30 * 20, 0)
    assert [level for _, level in down] == [1, 2, 3]
    assert [at_ns // S for at_ns, _ in down] == [2, 4, 6], "a window each"
    up = play(stream, [False] * 30 * 60, 20 * S)
    assert [level for _, level in up] == [2, 1, 0]
    assert all(later - earlier >= RULES.calm_ns for (earlier, _), (later, _) in pairwise(up))


def test_nothing_is_judged_while_no_frame_has_its_turn() -> None:
    """The run of the model before is still under way: frames superseded meanwhile say nothing about the next rung."""
    stream = ladder()
    now_ns = push_down(stream, 0)
    for _ in range(30 * 10):
        now_ns += S // 30
        assert not stream.saw(Fate.SUPERSEDED, now_ns)
    assert not stream.saw(Fate.MASK, now_ns)
    assert not stream.saw(Fate.MASK, now_ns)
    assert stream.saw(Fate.MASK, now_ns)
    assert stream.level == 2


def test_few_struggles_change_nothing_either_way() -> None:
    stream = ladder()
    down_ns = push_down(stream, 0)
    assert stream.level == 1
    assert play(stream, [number % 6 == 0 for number in range(30 * 300)], down_ns) == []


def test_one_that_must_go_down_again_waits_longer_each_time() -> None:
    """Served at level 1 it is calm, at level 0 it is not: an engine that is just too slow for all."""
    stream, now_ns, up_ns = ladder(), 0, []
    for _ in range(30 * 1200):
        now_ns += S // 30
        before = stream.level
        if stream.saw(Fate.MASK if before else Fate.LATE, now_ns) and stream.level < before:
            up_ns.append(now_ns)
    waits_s = [round((later - earlier) / S) for earlier, later in pairwise(up_ns)]
    assert waits_s == sorted(waits_s)
    assert waits_s[-1] >= LONGEST_CALM_S
    assert len(up_ns) < 14, "twenty minutes"


def test_after_it_stayed_up_the_next_calm_is_short_again() -> None:
    stream = ladder()

    def calm_until_up(from_ns: int) -> int:
        [(up_ns, level)] = play(stream, [False] * 30 * 30, from_ns)
        assert level == 0
        return up_ns - from_ns

    assert calm_until_up(push_down(stream, 0)) == pytest.approx(RULES.calm_ns, abs=2 * S)
    # It went up at 12 s and is pushed down after 30 s, later than it was calm: as if nothing had been.
    assert calm_until_up(push_down(stream, 33 * S)) == pytest.approx(RULES.calm_ns, abs=2 * S)
    up_ns = push_down(stream, 80 * S)
    stayed = play(stream, [False] * 30 * 13, up_ns)
    again_ns = push_down(stream, stayed[0][0] + 2 * S)
    assert calm_until_up(again_ns) == pytest.approx(2 * RULES.calm_ns, abs=3 * S)


def test_the_jitter_spreads_those_that_go_up() -> None:
    ups = []
    for jitter in (0.0, 0.5, 1.0):
        stream = ladder(jitter)
        ups.append(play(stream, [False] * 30 * 40, push_down(stream, 0))[0][0])
    assert ups[0] < ups[1] < ups[2]


def test_another_config_keeps_the_level_as_far_as_it_exists() -> None:
    stream = ladder()
    play(stream, [True] * 300, 0)
    assert (stream.level, stream.rung) == (3, ALL[3])
    assert stream.configure(ALL[:2])
    assert (stream.level, stream.rung) == (1, ALL[1])
    assert not stream.configure(ALL[:3])
    assert stream.configure((Rung("medium"), Rung("medium", every_second=True))), "the same level means another thing"
    assert stream.configure(ALL[:1])
    assert stream.level == 0


FRAMES = st.lists(
    st.tuples(st.integers(1, 400), st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0]), st.integers(1, 120)), max_size=30
)


@settings(deadline=None, max_examples=40)
@given(FRAMES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_whatever_happens_the_ladder_is_slow_to_move_and_finds_back(
    phases: list[tuple[int, float, int]], jitter: float, random: object
) -> None:
    stream, now_ns, changes, struggles = ladder(jitter), 0, [(-(10**12), 0)], []
    for gap_ms, ratio, frames in phases:
        for _ in range(frames):
            now_ns += gap_ms * 1_000_000
            struggled = random.random() < ratio  # type: ignore[attr-defined]
            fate = random.choice([Fate.LATE, Fate.SUPERSEDED]) if struggled else Fate.MASK  # type: ignore[attr-defined]
            struggles.append(struggled)
            before = stream.level
            assert stream.saw(fate, now_ns) == (stream.level != before)
            if stream.level != before:
                assert abs(stream.level - before) == 1
                wait_ns = RULES.window_ns if stream.level > before else RULES.calm_ns
                assert now_ns - changes[-1][0] >= wait_ns
                assert struggled or True in struggles or stream.level < before, "never down without a reason"
                changes.append((now_ns, stream.level))
            assert 0 <= stream.level < len(ALL)
    calm_s = 3 * (LONGEST_CALM_S) * 2 + 20
    play(stream, [False] * calm_s, now_ns + S, fps=1)
    play(stream, [False] * calm_s, now_ns + calm_s * S, fps=1)
    assert stream.level == 0
