"""The messages between the command and its client processes: dealt out, sent across, added up."""

from collections import Counter

import pytest

from benchmarks.arrivals import Arrivals
from benchmarks.plan import LoadPlan, Outcome, SessionFigures
from benchmarks.recording import FrameTimes, Histogram
from benchmarks.slices import Slice

MS = 1_000_000


def plan(sessions: int = 5) -> LoadPlan:
    return LoadPlan(
        address="127.0.0.1:50051",
        sessions=sessions,
        fps=29.97,
        warmup_s=1.5,
        measured_s=10.0,
        arrivals=Arrivals.POISSON,
        seed=9,
        model="",
        width=640,
        height=360,
        pixel_format="i420",
        temporal="high",
        clip=None,
    )


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 8])
def test_every_session_is_run_by_exactly_one_process_and_the_shares_are_even(processes: int) -> None:
    shares = plan(sessions=5).shares(processes)
    assert len(shares) == min(processes, 5)
    assert sorted(number for share in shares for number in share.numbers) == [0, 1, 2, 3, 4]
    assert [share.is_first for share in shares] == [True] + [False] * (len(shares) - 1)
    lengths = [len(share.numbers) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_a_plan_crosses_over_on_one_line() -> None:
    share = plan().shares(2)[1]
    text = share.to_json()
    assert "\n" not in text
    assert LoadPlan.from_json(text) == share


def outcome(latency_ms: float, dropped: int) -> Outcome:
    seen = Outcome(
        first_mask_ms=[latency_ms * 2],
        frames=Counter(sent=1 + dropped, masks=1),
        dropped=Counter(SUPERSEDED=dropped),
        on_time=Counter({"33.3": 1}),
        join_ms=[latency_ms * 3],
        sessions=[SessionFigures(dropped, 1 + dropped, 1, latency_ms, latency_ms, latency_ms)],
        slices=[Slice(Counter({20_000: 1}), Counter(sent=1)) for _ in range(1 + dropped)],
    )
    times = FrameTimes(intended_ns=0, free_ns=0, started_ns=2 * MS)
    seen.recorder.sent(times)
    seen.recorder.answered(times, round(latency_ms * MS))
    seen.stages["total"] = Histogram()
    seen.stages["total"].record_us(latency_ms * 500)
    return seen


def test_outcomes_of_two_processes_add_up() -> None:
    whole = Outcome()
    for part in (outcome(20, dropped=2), outcome(30, dropped=0)):
        whole.merge(Outcome.from_plain(part.to_plain()))
    assert whole.frames == Counter(sent=4, masks=2)
    assert whole.dropped == Counter(SUPERSEDED=2)
    assert whole.on_time == Counter({"33.3": 2})
    assert whole.first_mask_ms == [40, 60]
    assert whole.join_ms == [60, 90]
    assert [session.session for session in whole.sessions] == [2, 0]
    assert [one.counts["sent"] for one in whole.slices] == [2, 1, 1]
    assert whole.slices[0].latency_us == {20_000: 2}
    assert whole.recorder.latency.count == 2
    assert whole.recorder.latency.max_ms == pytest.approx(30, rel=0.002)
    assert whole.recorder.from_send.max_ms == pytest.approx(28, rel=0.002)
    assert whole.recorder.send_lag.max_ms == pytest.approx(2, rel=0.002)
    assert whole.stages["total"].count == 2
