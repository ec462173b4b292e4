"""The verdict of a soak: what counts as growth, and when nothing can be said."""

from dataclasses import replace

import pytest

from benchmarks.soak import Sample, judge

REST = Sample(at_s=0, rss_mib=200, file_descriptors=17, threads=14, shared_memory_files=1)


def hour(leak_mib_per_hour: float = 0.0, minutes: float = 60.0) -> list[Sample]:
    """A sample every ten seconds; memory settles 30 MiB higher in the first ten minutes, and then goes up and down."""
    samples = []
    for number in range(int(minutes * 6)):
        at_s = 10.0 * number
        rss_mib = 200 + min(at_s, 600) / 20 + (number * 37 % 11) / 10 + leak_mib_per_hour * at_s / 3600
        samples.append(replace(REST, at_s=at_s, rss_mib=rss_mib))
    return samples


def test_an_hour_without_growth_is_steady() -> None:
    verdict = judge(hour(), REST, REST)
    assert verdict["steady"] is True
    assert verdict["complaints"] == []
    assert abs(verdict["rss_mib_per_hour"]) < 1


def test_a_leak_is_named_with_its_size() -> None:
    verdict = judge(hour(leak_mib_per_hour=12), REST, REST)
    assert verdict["steady"] is False
    [complaint] = verdict["complaints"]
    assert complaint.startswith("memory grows by 12")


@pytest.mark.parametrize(
    ("name", "now", "is_fine"),
    [
        ("file_descriptors", 19, True),
        ("file_descriptors", 20, False),
        ("threads", 16, True),
        ("threads", 17, False),
        ("shared_memory_files", 2, False),
        ("shared_memory_files", 0, True),
    ],
)
def test_what_is_left_at_rest_is_counted(name: str, now: int, is_fine: bool) -> None:
    verdict = judge(hour(), REST, replace(REST, **{name: now}))
    assert verdict["steady"] is is_fine
    assert is_fine or f"{name} at rest" in verdict["complaints"][0]


def test_a_short_run_says_nothing_of_memory() -> None:
    verdict = judge(hour(leak_mib_per_hour=500, minutes=10), REST, REST)
    assert verdict["steady"] is False
    [complaint] = verdict["complaints"]
    assert "say nothing of memory" in complaint
