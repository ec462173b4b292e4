"""The circuit breaker, by a table of what happens when."""

from engines.breaker import COOL_DOWN_S, FAILURES_TO_OPEN, Breaker, BreakerState

SECOND = 1_000_000_000
COOL_DOWN_NS = int(COOL_DOWN_S * SECOND)


def opened(at_ns: int = 0) -> Breaker:
    breaker = Breaker()
    results = [breaker.failed(f"failure {index}", at_ns) for index in range(FAILURES_TO_OPEN)]
    assert results == [False] * (FAILURES_TO_OPEN - 1) + [True]
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES_TO_OPEN - 1):
            assert not breaker.failed("no", 0)
        breaker.answered()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.reason == ""
    assert opened().state is BreakerState.OPEN
    assert opened().reason == f"failure {FAILURES_TO_OPEN - 1}"


def test_one_probe_after_the_cool_down_and_no_second_while_it_runs() -> None:
    breaker = opened(at_ns=SECOND)
    assert not breaker.take_probe(SECOND + COOL_DOWN_NS - 1)
    assert breaker.take_probe(SECOND + COOL_DOWN_NS)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.reason
    assert not breaker.take_probe(10 * SECOND)


def test_a_probe_that_fails_opens_it_for_another_cool_down() -> None:
    breaker = opened()
    assert breaker.take_probe(COOL_DOWN_NS)
    breaker.probed("still no", 5 * SECOND)
    assert (breaker.state, breaker.reason) == (BreakerState.OPEN, "still no")
    assert not breaker.take_probe(5 * SECOND + COOL_DOWN_NS - 1)
    assert breaker.take_probe(5 * SECOND + COOL_DOWN_NS)


def test_a_probe_that_succeeds_closes_it_with_a_clean_record() -> None:
    breaker = opened()
    assert breaker.take_probe(COOL_DOWN_NS)
    breaker.probed(None, COOL_DOWN_NS)
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.failed("once", COOL_DOWN_NS)


def test_calls_that_began_before_count_for_nothing_while_it_is_open() -> None:
    breaker = opened()
    breaker.answered()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.failed("late", COOL_DOWN_NS - 1)
    assert breaker.take_probe(COOL_DOWN_NS), "a late failure must not put the probe off"
    breaker.answered()
    assert breaker.state is BreakerState.HALF_OPEN
