"""Whether a run may be quoted, and what to do if not."""

from dataclasses import dataclass

from benchmarks.clock import MAX_JUMP_MS
from benchmarks.recording import Recorder, samples_needed

#: How late the load generator may send, as its p99, before latencies say more about it than about the server.
MAX_SEND_LAG_P99_MS = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run may be quoted."""

    complaints: tuple[str, ...]
    """Each with what is wrong, the figure, and what to do; empty if the run is valid."""

    @property
    def valid(self) -> bool:
        """No complaints."""
        return not self.complaints


def judge(seen: Recorder, unanswered: int, clock_jump_ms: float) -> Verdict:
    """Hold a finished run against the rules of measuring.

    Args:
        seen: the measured part of all sessions, warm-up excluded.
        unanswered: frames that were sent and never answered.
        clock_jump_ms: the largest jump of the wall clock against the monotonic one.
    """
    complaints = []
    lag_ms = seen.send_lag.percentile_ms(99)
    if lag_ms > MAX_SEND_LAG_P99_MS:
        complaints.append(
            f"the load generator lags: p99 of its send times is {lag_ms:.1f} ms late, allowed are"
            f" {MAX_SEND_LAG_P99_MS:.1f} ms; free a CPU core for it (fewer sessions, --server-cpus, another machine)"
        )
    if clock_jump_ms > MAX_JUMP_MS:
        complaints.append(
            f"the clock jumped by {clock_jump_ms:.0f} ms, allowed are {MAX_JUMP_MS:.0f} ms: it was set, or the machine"
            " stood still; measure again, with the time service slewing and nothing that suspends"
        )
    needed = samples_needed(99)
    if seen.latency.count < needed:
        complaints.append(
            f"too few samples for p99: {seen.latency.count} masks, needed are {needed}; raise --seconds or --sessions"
        )
    if unanswered:
        complaints.append(f"{unanswered} frames were never answered; look at the server's log")
    return Verdict(tuple(complaints))


def judge_exit(status: int | None) -> list[str]:
    """The complaint about a server that was stopped after the run; None: it was not ours to stop."""
    return [f"the server ended with status {status} when it was stopped; look at its log"] if status else []
