"""Intended send times: pure, seeded, and what they are said to be."""

import random
from itertools import pairwise

import pytest

from benchmarks.arrivals import NS_PER_S, SHORTEST_ABSENCE_S, Arrivals, churn_ns, paced_ns, plan_ns, poisson_ns


def test_paced_times_lie_exactly_on_the_grid_even_after_an_hour() -> None:
    times = paced_ns(fps=30, duration_s=3600, phase_ratio=0.25)
    assert len(times) == 108_000
    assert times[0] == round(0.25 / 30 * NS_PER_S)
    # The last one by its own formula: an error that adds up would show after 108,000 steps.
    assert times[-1] == round((107_999 + 0.25) * NS_PER_S / 30)
    assert {later - earlier for earlier, later in pairwise(times)} <= {33_333_333, 33_333_334}


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    times = poisson_ns(fps=50, duration_s=400, rng=random.Random(3))
    gaps_s = [(later - earlier) / NS_PER_S for earlier, later in pairwise(times)]
    mean_s = sum(gaps_s) / len(gaps_s)
    deviation_s = (sum((gap - mean_s) ** 2 for gap in gaps_s) / len(gaps_s)) ** 0.5
    assert mean_s == pytest.approx(1 / 50, rel=0.03)
    assert deviation_s == pytest.approx(1 / 50, rel=0.05)
    assert times == sorted(times)
    assert times[-1] < 400 * NS_PER_S


@pytest.mark.parametrize("arrivals", list(Arrivals))
def test_the_same_seed_gives_the_same_plan_and_a_further_session_changes_no_other(arrivals: Arrivals) -> None:
    plan = plan_ns(arrivals, sessions=3, fps=30, duration_s=2, seed=5)
    assert plan == plan_ns(arrivals, sessions=3, fps=30, duration_s=2, seed=5)
    assert plan_ns(arrivals, sessions=4, fps=30, duration_s=2, seed=5)[:3] == plan
    assert plan != plan_ns(arrivals, sessions=3, fps=30, duration_s=2, seed=6)


def test_paced_sessions_do_not_march_in_step() -> None:
    plan = plan_ns(Arrivals.PACED, sessions=20, fps=30, duration_s=1, seed=1)
    phases = sorted(stays[0][0] for stays in plan)
    assert phases[0] >= 0
    assert phases[-1] < NS_PER_S / 30
    assert len(set(phases)) == 20
    assert phases[-1] - phases[0] > NS_PER_S / 30 / 2


def test_bursty_sessions_all_send_at_the_same_instants() -> None:
    plan = plan_ns(Arrivals.BURSTY, sessions=5, fps=30, duration_s=2, seed=4)
    assert all(stays == plan[0] for stays in plan)
    assert len(plan[0][0]) == 60


def test_people_who_come_and_go_stay_and_are_away_as_long_as_is_said() -> None:
    stays = churn_ns(fps=20, duration_s=20_000, rng=random.Random(2))
    assert stays[0][0] == 0, "all are there at the start"
    lengths_s = [(stay[-1] - stay[0]) / NS_PER_S + 1 / 20 for stay in stays]
    absences_s = [(later[0] - earlier[-1]) / NS_PER_S - 1 / 20 for earlier, later in pairwise(stays)]
    # About 2,500 stays; the standard error of the mean stay is 5 / 50 s, of the mean absence 1.5 / 50 s.
    assert sum(lengths_s) / len(stays) == pytest.approx(6.0, abs=0.3)
    assert sum(absences_s) / len(absences_s) == pytest.approx(2.0, abs=0.1)
    assert min(absences_s) >= SHORTEST_ABSENCE_S - 1 / 20
    assert {later - earlier for stay in stays for earlier, later in pairwise(stay)} == {50_000_000}
    assert stays[-1][-1] < 20_000 * NS_PER_S


@pytest.mark.parametrize(("sessions", "fps", "duration_s"), [(0, 30, 1), (1, 0, 1), (1, 30, 0), (1, float("nan"), 1)])
def test_no_load_is_refused(sessions: int, fps: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match="no load"):
        plan_ns(Arrivals.PACED, sessions, fps, duration_s, seed=1)
