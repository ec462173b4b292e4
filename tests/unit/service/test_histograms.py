"""Our own histograms show what the Prometheus client's would, sample by sample."""

import random

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.histograms import DurationCounter, DurationHistogram

EDGES_S = (0.00025, 0.008, 0.0167, 1.0)
STAGES = ("inference", "encode")


def page(registry: CollectorRegistry) -> dict[str, float]:
    """Sample by name and labels; when a family was created differs from one to the next."""
    lines = generate_latest(registry).decode().splitlines()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: 0.0 if "_created" in name else float(value) for name, _, value in samples}


def kinds(registry: CollectorRegistry) -> list[str]:
    return sorted(line for line in generate_latest(registry).decode().splitlines() if line.startswith("#"))


def test_they_show_what_the_clients_own_show() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    our_stages = DurationHistogram("stage_seconds", "Time", EDGES_S, ours, label="stage", values=STAGES)
    their_stages = Histogram("stage_seconds", "Time", ["stage"], buckets=EDGES_S, registry=theirs)
    our_writes = DurationHistogram("write_seconds", "Writes", EDGES_S, ours).series()
    their_writes = Histogram("write_seconds", "Writes", buckets=EDGES_S, registry=theirs)
    our_cpu = DurationCounter("cpu_seconds", "CPU", ours, label="stage", values=STAGES)
    their_cpu = Counter("cpu_seconds", "CPU", ["stage"], registry=theirs)
    rng = random.Random(4)
    on_the_edges = [round(edge * 1e9) + off for edge in EDGES_S for off in (-1, 0, 1)]
    for took_ns in [*on_the_edges, 0, *(rng.randrange(3_000_000_000) for _ in range(200))]:
        for stage in STAGES:
            our_stages.series(stage).observe_ns(took_ns)
            their_stages.labels(stage).observe(took_ns / 1e9)
            our_cpu.add_ns(stage, took_ns)
            their_cpu.labels(stage).inc(took_ns / 1e9)
        our_writes.observe_ns(took_ns)
        their_writes.observe(took_ns / 1e9)
    assert page(ours) == pytest.approx(page(theirs), rel=1e-12)
    assert kinds(ours) == kinds(theirs)


def test_every_value_of_the_label_is_shown_before_anything_was_counted() -> None:
    registry = CollectorRegistry()
    DurationHistogram("stage_seconds", "Time", EDGES_S, registry, label="stage", values=STAGES)
    assert registry.get_sample_value("stage_seconds_count", {"stage": "encode"}) == 0
    assert registry.get_sample_value("stage_seconds_bucket", {"stage": "encode", "le": "+Inf"}) == 0


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    DurationHistogram("stage_seconds", "Time", EDGES_S, registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        DurationHistogram("stage_seconds", "Time", EDGES_S, registry)
