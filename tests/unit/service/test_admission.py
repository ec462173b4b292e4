"""Which live streams are taken: the assumption about new ones, the measurement of the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import WINDOW_NS, Admission, AdmissionRules
from service.call_errors import CallError, Reason

MS = 1_000_000
#: At 30 frames a second each takes 0.6 of a runner.
PICTURE_NS = 20 * MS


def admission(load_ratio: float = 0.9, runners: int = 2) -> Admission:
    return Admission(AdmissionRules(load_ratio, 30.0, runners))


def admitted(of: Admission, keys: range, now_ns: int, picture_ns: int = PICTURE_NS) -> list[int]:
    taken = []
    for key in keys:
        try:
            of.admit(key, picture_ns, now_ns)
        except CallError as error:
            assert error.reason is Reason.OVERLOADED
        else:
            taken.append(key)
    return taken


def test_a_burst_gets_in_as_far_as_it_is_assumed_to_fit() -> None:
    """Three times 0.6 are 1.8 of two runners: just the 0.9 allowed."""
    assert admitted(admission(), range(100), now_ns=5) == [0, 1, 2]


def test_the_refusal_says_what_was_reckoned() -> None:
    full = admission(runners=1)
    full.admit("a", PICTURE_NS, 0)
    with pytest.raises(CallError, match="120 % of the time, allowed are 90 %") as caught:
        full.admit("b", PICTURE_NS, 0)
    assert caught.value.metadata == {"load_percent": "120", "max_load_percent": "90"}


def test_the_first_one_is_always_taken_and_the_same_one_stays() -> None:
    slow = admission(runners=1)
    for _ in range(3):
        slow.admit("a", 3600 * 10**9, 0)
    assert admitted(slow, range(3), now_ns=0) == []
    slow.leave("a")
    assert admitted(slow, range(3), now_ns=0) == [0]


def test_zero_takes_all() -> None:
    assert len(admitted(admission(load_ratio=0), range(100), now_ns=0)) == 100


def run(of: Admission, keys: list[int], fps: float, from_ns: int, until_ns: int) -> None:
    at_ns = from_ns
    while at_ns < until_ns:
        for key in keys:
            of.worked(key, PICTURE_NS, at_ns)
        at_ns += round(1e9 / fps)


def test_measured_work_takes_the_place_of_the_assumption() -> None:
    """They turn out to send 10 frames a second instead of 30, so that as many again fit."""
    server = admission()
    keys = admitted(server, range(3), now_ns=0)
    run(server, keys, 10, 0, 3 * WINDOW_NS)
    assert server.load(3 * WINDOW_NS) == pytest.approx(3 * 10 * 0.020 / 2, rel=0.15)
    assert admitted(server, range(10, 20), now_ns=3 * WINDOW_NS) == [10, 11]


def test_those_that_send_nothing_cost_nothing_in_the_end() -> None:
    server = admission()
    assert admitted(server, range(3), now_ns=0) == [0, 1, 2]
    assert admitted(server, range(10, 13), now_ns=3 * WINDOW_NS) == [10, 11, 12]


def test_clients_that_come_and_vanish_keep_nobody_out() -> None:
    server = admission()
    for key in range(1000):
        server.admit(key, PICTURE_NS, key)
        server.leave(key)
    assert admitted(server, range(2000, 2010), now_ns=1000) == [2000, 2001, 2002]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=60))
def test_the_load_is_never_forgotten_while_a_stream_settles(steps: list[tuple[int, int]]) -> None:
    """A stream that works at the assumed rate from the start counts with at least that, at any age."""
    server = admission(runners=4)
    server.admit(0, PICTURE_NS, 0)
    at_ns, next_frame_ns = 0, 0
    for _, wait_ms in steps:
        at_ns += wait_ms * MS
        while next_frame_ns <= at_ns:
            server.worked(0, PICTURE_NS, next_frame_ns)
            next_frame_ns += round(1e9 / 30)
        # One frame less may lie in the window.
        assert server.load(at_ns) >= 0.9 * 0.6 / 4
