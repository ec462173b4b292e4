"""Histograms, and the rule of the intended send time."""

import random

import pytest

from benchmarks.arrivals import paced_ns
from benchmarks.recording import LONGEST_US, FrameTimes, Histogram, Recorder, merged, samples_needed

MS = 1_000_000


def histogram_of(*times_ms: float) -> Histogram:
    histogram = Histogram()
    for time_ms in times_ms:
        histogram.record_us(time_ms * 1000)
    return histogram


def test_percentiles_agree_with_sorting_within_the_histograms_precision() -> None:
    rng = random.Random(2)
    times_ms = sorted(rng.lognormvariate(3, 0.7) for _ in range(20_000))
    summary = histogram_of(*times_ms).summary()
    assert summary["n"] == 20_000
    for name, rank in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p99.9_ms", 0.999)):
        assert summary[name] == pytest.approx(times_ms[int(rank * 20_000) - 1], rel=0.004)
    assert summary["max_ms"] == pytest.approx(times_ms[-1], rel=0.002)
    assert summary["thin"] == []


def test_histograms_of_several_processes_add_up_to_the_one_of_all_samples() -> None:
    rng = random.Random(4)
    samples = [[rng.expovariate(1 / 20) for _ in range(500)] for _ in range(3)]
    parts = [Histogram.decode(histogram_of(*part).encode()) for part in samples]
    whole = histogram_of(*(time_ms for part in samples for time_ms in part))
    assert merged(parts).summary() == whole.summary()


def test_an_empty_histogram_crosses_over_and_says_that_it_is_empty() -> None:
    summary = Histogram.decode(Histogram().encode()).summary()
    assert summary["n"] == 0
    assert summary["p99_ms"] == 0
    assert summary["thin"] == ["p50", "p90", "p95", "p99", "p99.9"]


def test_times_out_of_range_are_kept_at_its_ends() -> None:
    histogram = histogram_of(-5, 0, LONGEST_US)
    assert histogram.count == 3
    assert histogram.max_ms == pytest.approx(LONGEST_US / 1000, rel=0.002)


def test_a_percentile_needs_ten_samples_beyond_it() -> None:
    assert [samples_needed(rank) for rank in (50, 95, 99, 99.9)] == [20, 200, 1000, 10_000]
    assert histogram_of(*[1.0] * 999).summary()["thin"] == ["p99", "p99.9"]


def simulate(stall_ms: float, open_loop: bool) -> Recorder:
    """10 s at 30 fps against a server that needs 5 ms a frame and once stands still for ``stall_ms``.

    One frame at a time, in order, on a simulated clock. The open loop sends by the plan; the closed one, as most
    load generators do, sends a frame only when the one before it was answered, and then at its own later time.
    """
    recorder = Recorder()
    server_free_ns = 0
    closed_ready_ns = 0
    for intended_ns in paced_ns(fps=30, duration_s=10, phase_ratio=0.0):
        started_ns = intended_ns if open_loop else max(intended_ns, closed_ready_ns)
        begins_ns = max(started_ns, server_free_ns)
        if begins_ns <= 3000 * MS < begins_ns + 33 * MS:
            begins_ns += round(stall_ms * MS)
        server_free_ns = begins_ns + 5 * MS
        closed_ready_ns = server_free_ns
        times = FrameTimes(intended_ns, intended_ns, started_ns)
        recorder.sent(times)
        recorder.answered(times, server_free_ns)
    return recorder


def test_a_stalled_server_shows_in_the_latency_from_the_intended_time_only() -> None:
    """A stall of 1 s touches the 30 frames planned for it, a tenth of all: p95 must show it, and p50 must not."""
    calm, stalled = simulate(0, open_loop=True), simulate(1000, open_loop=True)
    assert calm.latency.percentile_ms(99) == pytest.approx(5, rel=0.01)
    assert stalled.latency.percentile_ms(95) > 400
    assert stalled.latency.percentile_ms(50) == pytest.approx(5, rel=0.01)
    assert stalled.latency.max_ms == pytest.approx(1005, abs=35)


def test_counting_from_the_actual_send_would_hide_the_stall() -> None:
    """The trap itself, for comparison: a closed loop sees one slow frame of 300, and its p99 stays at 5 ms."""
    closed = simulate(1000, open_loop=False)
    assert closed.from_send.percentile_ms(99) == pytest.approx(5, rel=0.01)
    # The very same run, counted from the intended times, does show it.
    assert closed.latency.percentile_ms(95) > 400


def test_time_blocked_by_the_server_is_latency_but_not_the_load_generators_lag() -> None:
    recorder = Recorder()
    times = FrameTimes(intended_ns=0, free_ns=400 * MS, started_ns=400 * MS)
    recorder.sent(times)
    recorder.answered(times, 410 * MS)
    assert recorder.send_lag.max_ms < 0.01
    assert recorder.latency.max_ms == pytest.approx(410, rel=0.002)
    assert recorder.from_send.max_ms == pytest.approx(10, rel=0.002)
