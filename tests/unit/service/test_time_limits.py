"""What time allows a stream, with the time made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.call_errors import CallError, Reason
from service.time_limits import AGE_SPREAD_RATIO, Due, SessionTimeouts, TimeLimits

S = 10**9
TIMEOUTS = SessionTimeouts(config_s=10, idle_s=60, write_s=5, max_age_s=0, age_notice_s=10)


def due(limits: TimeLimits, now_ns: int, *, config: bool = False, message: bool = False) -> Due:
    return limits.due(now_ns, awaits_config=config, awaits_message=message)


def test_the_config_has_its_time_from_the_opening() -> None:
    limits = TimeLimits(TIMEOUTS, 0)
    limits.message_came(9 * S)  # an image is no config
    assert due(limits, 9 * S, config=True).sleep_s == pytest.approx(1)
    with pytest.raises(CallError, match="no config came within 10 s") as caught:
        due(limits, 10 * S, config=True)
    assert caught.value.reason is Reason.CONFIG_TIMEOUT


def test_messages_have_theirs_from_the_last_one_and_only_while_they_are_wanted() -> None:
    limits = TimeLimits(TIMEOUTS, 0)
    limits.message_came(50 * S)
    assert due(limits, 109 * S, message=True).sleep_s == pytest.approx(1)
    assert due(limits, 200 * S).sleep_s == TIMEOUTS.shortest_s
    with pytest.raises(CallError) as caught:
        due(limits, 110 * S, message=True)
    assert caught.value.reason is Reason.IDLE_TIMEOUT


def test_an_answer_has_to_be_read_in_time_and_then_is_forgotten() -> None:
    limits = TimeLimits(TIMEOUTS, 0)
    limits.write_began(1 * S)
    assert due(limits, 4 * S).sleep_s == pytest.approx(2)
    with pytest.raises(CallError) as caught:
        due(limits, 6 * S)
    assert caught.value.reason is Reason.CLIENT_NOT_READING
    assert limits.write_ended(7 * S) == 6 * S
    assert due(limits, 100 * S) == Due(TIMEOUTS.shortest_s, None, is_over=False)


@given(st.floats(1, 10_000), st.floats(0, 100))
def test_the_age_is_told_once_and_before_the_end(max_age_s: float, notice_s: float) -> None:
    limits = TimeLimits(SessionTimeouts(10, 60, 5, max_age_s, notice_s), 0)
    now_ns, told_s = 0, []
    while now_ns <= max_age_s * 1e9:
        now = due(limits, now_ns)
        if now.notice_s is not None:
            told_s.append(now.notice_s)
        # By what it says itself to sleep, so that it cannot oversleep; the notice may be due at once.
        now_ns += max(int(now.sleep_s * 1e9), 10**6, int(max_age_s * 1e7))
    assert len(told_s) == 1
    assert 0 <= told_s[0] <= min(notice_s, max_age_s / 2) + 1e-6


def test_ages_are_spread_so_that_streams_do_not_come_back_together() -> None:
    timeouts = SessionTimeouts(10, 60, 5, 1000, 10)
    ages = {age_s[1] for _ in range(50) if (age_s := timeouts.draw_age_s()) is not None}
    assert len(ages) > 40
    assert 1000 * (1 - AGE_SPREAD_RATIO) <= min(ages) <= max(ages) <= 1000
    assert max(ages) - min(ages) > 50


def test_the_earlier_end_holds_and_is_what_the_client_is_told() -> None:
    limits = TimeLimits(TIMEOUTS, 0)
    assert not limits.has_end
    assert limits.end_soon(Reason.MAX_AGE, 10, 0)
    assert not limits.end_soon(Reason.DRAINING, 20, 0)
    assert limits.parting().reason is Reason.MAX_AGE
    assert limits.end_soon(Reason.DRAINING, 3, 0)
    assert limits.has_end
    assert due(limits, 2 * S).sleep_s == pytest.approx(1)
    assert not due(limits, 2 * S).is_over
    assert due(limits, 3 * S).is_over
    assert limits.parting().reason is Reason.DRAINING
    assert "another replica" in str(limits.parting())
