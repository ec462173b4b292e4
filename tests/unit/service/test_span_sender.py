"""Spans that wait, are sent, are lost; nothing here is OpenTelemetry's."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from service.metrics import ServiceMetrics
from service.span_sender import MAX_BATCH, MAX_WAITING, SendError, SpanSender
from support.timing import limit_s


class Collector:
    """Takes batches of numbers, one at a time, when the test lets it; loses those that it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.lost: set[int] = set()
        self.open = threading.Event()
        self.asked = threading.Event()
        self.is_broken_off = False

    def send(self, batch: Sequence[int]) -> None:
        self.asked.set()
        self.open.wait()
        if self.is_broken_off or self.lost & set(batch):
            raise SendError("nobody is there")
        self.batches.append(list(batch))

    def break_off(self) -> None:
        self.is_broken_off = True
        self.open.set()

    def taken(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


@pytest.fixture(autouse=True)
def _at_once_and_all_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("service.span_sender.SEND_INTERVAL_S", 0.001)
    caplog.set_level("INFO", logger="humanseg.service")


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.break_off()


def counted(metrics: ServiceMetrics) -> tuple[float, float]:
    """(sent, dropped)"""
    sent, dropped = (
        metrics.registry.get_sample_value("humanseg_trace_spans_total", {"outcome": outcome})
        for outcome in ("sent", "dropped")
    )
    assert sent is not None
    assert dropped is not None
    return sent, dropped


def opened(collector: Collector, calm_s: float = 0.0) -> tuple[SpanSender[int], ServiceMetrics]:
    metrics = ServiceMetrics()
    return SpanSender(collector.send, collector.break_off, "http://here:1", metrics, calm_s=calm_s), metrics


def test_all_arrive_once_in_order_and_in_batches(collector: Collector) -> None:
    sender, metrics = opened(collector)
    collector.open.set()
    for number in range(0, 1500, 3):
        sender.put([number, number + 1, number + 2])
    sender.close()
    assert collector.taken() == list(range(1500))
    assert max(map(len, collector.batches)) <= MAX_BATCH
    assert counted(metrics) == (1500, 0)


def test_what_does_not_fit_is_dropped_whole_and_counted(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    sender, metrics = opened(collector)
    sender.put(list(range(MAX_BATCH)))
    assert collector.asked.wait(limit_s(20)), "a full batch is not waited with"
    for number in range(MAX_WAITING - 1):
        sender.put([number])
    sender.put([-1, -2])  # there is room for one
    sender.put([-3])
    sender.put([-4])
    assert counted(metrics) == (0, 3)
    collector.open.set()
    sender.close()
    assert counted(metrics) == (MAX_BATCH + MAX_WAITING, 3)
    assert min(collector.taken()) == -3
    assert told(caplog) == ["trace_export_failed", "trace_export_restored"], "one line for two losses"


def test_a_close_breaks_off_what_hangs_and_counts_the_rest(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.span_sender.CLOSE_TIMEOUT_S", 0.05)
    sender, metrics = opened(collector)
    sender.put(list(range(MAX_BATCH + 10)))
    sender.close()
    assert counted(metrics) == (0, MAX_BATCH + 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "trace-sender" and thread.is_alive()]


def test_each_outage_is_told_of_once(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    sender, metrics = opened(collector)
    collector.lost = {1, 2, 5}
    collector.open.set()
    wait_for = waiting_for(lambda: sum(counted(metrics)))
    for number in range(1, 7):
        sender.put([number])
        wait_for(number)
    sender.close()
    assert told(caplog) == [
        "trace_export_failed", "trace_export_restored", "trace_export_failed", "trace_export_restored"
    ]  # fmt: skip
    assert counted(metrics) == (3, 3)


def test_losses_with_little_between_them_are_one_outage(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    sender, metrics = opened(collector, calm_s=1e6)
    collector.lost = {1, 3}
    collector.open.set()
    wait_for = waiting_for(lambda: sum(counted(metrics)))
    for number in range(1, 5):
        sender.put([number])
        wait_for(number)
    sender.close()
    assert told(caplog) == ["trace_export_failed"]
    assert counted(metrics) == (2, 2)


def test_a_bug_in_what_sends_does_not_end_the_thread() -> None:
    def send(batch: Sequence[int]) -> None:
        raise ZeroDivisionError("one of ours")

    metrics = ServiceMetrics()
    sender = SpanSender[int](send, lambda: None, "http://here:1", metrics)
    wait_for = waiting_for(lambda: sum(counted(metrics)))
    for number in (1, 2):
        sender.put([number])
        wait_for(number)
    sender.close()
    assert counted(metrics) == (0, 2)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def waiting_for(value: Callable[[], float]) -> Callable[[float], None]:
    """Waits until it is that much."""

    def wait(wanted: float) -> None:
        for _ in range(round(limit_s(20) / 0.005)):
            if value() == wanted:
                return
            threading.Event().wait(0.005)
        raise AssertionError(f"it stayed {value()}, expected {wanted}")

    return wait
