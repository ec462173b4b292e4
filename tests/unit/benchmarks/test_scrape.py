"""Reading a Prometheus page and what changed between two."""

import pytest
from prometheus_client import generate_latest

from benchmarks.scrape import ScrapeError, Snapshot, batch_frames, parse
from service.metrics import ServiceMetrics


def page_after(*batches: int) -> Snapshot:
    metrics = ServiceMetrics()
    for frames in batches:
        metrics.batch_frames.labels("medium").observe(frames)
    return parse(generate_latest(metrics.registry).decode())


def test_values_are_summed_over_the_labels_that_are_not_named() -> None:
    page = parse('a_total{x="1",y="p"} 2\na_total{x="1",y="q"} 3\na_total{x="2",y="p"} 5\n')
    assert page.value("a_total") == 10
    assert page.value("a_total", x="1") == 5
    assert page.value("a_total", x="1", y="q") == 3
    assert page.value("a_total", x="3") == 0
    assert page.by_label("a_total", "y") == {"p": 7, "q": 3}


def test_growth_counts_what_was_not_there_before_from_zero() -> None:
    growth = parse("a_total 7\nb_total 2\n").since(parse("a_total 4\n"))
    assert growth.value("a_total") == 3
    assert growth.value("b_total") == 2


def test_batch_sizes_come_out_of_the_cumulative_buckets_of_the_real_metrics() -> None:
    growth = page_after(1, 1, 1, 2, 7, 8).since(page_after(1))
    assert batch_frames(growth) == {"1": 2, "2": 1, "8": 2}


def test_what_is_no_metrics_page_is_refused() -> None:
    with pytest.raises(ScrapeError, match="not a Prometheus page"):
        parse("<html>nothing here</html>")
