"""The verdict on calls whose figures are known, and what is said of a peer that failed."""

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from benchmarks.relay_figures import Used, judge, table, verdict
from benchmarks.relay_programs import check_installed, read_peer
from benchmarks.target import TargetError


def peer(**changes: Any) -> dict[str, Any]:
    """A call that holds the bars, just; ``changes`` of its figures and of the relay's."""
    relay = {
        "received": 1330, "sent": 1325, "composed": 1250, "dropped": 7, "background_only": 0,
        "delays": 1000, "delay_p50_ms": 11.3, "delay_p99_ms": 33.0, "delay_max_ms": 61.4,
    }  # fmt: skip
    figures = {"codec": "VP8", "size": "640x360", "sent": 1330, "sent_fps": 29.5, "back": 1249, "back_fps": 29.0}
    assert set(changes) <= {*relay, *figures}
    return {
        **{name: changes.get(name, value) for name, value in figures.items()},
        "relay": {name: changes.get(name, value) for name, value in relay.items()},
    }


def judged(**changes: Any) -> dict[str, Any]:
    return judge(peer(**changes), Used(relay_cpu_s=12.5, service_cpu_s=15.0), load_before=0.314)


def test_a_call_at_the_bars_is_held_and_cpu_time_is_that_of_a_picture() -> None:
    figures = judged()
    assert (figures["valid"], figures["held"], figures["complaints"]) == (True, True, [])
    assert figures["cpu_ms_per_picture"] == {"relay": 10.0, "service": 12.0}
    assert verdict("VP8", figures) == "VP8: held"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"back_fps": 28.94}, "28.9 frames a second came back, wanted are 29"),
        ({"delay_p99_ms": 33.1}, "p99 of the delay is 33.1 ms, allowed are 33"),
        ({"background_only": 3}, "3 pictures were the background alone"),
    ],
)
def test_each_bar_is_named_where_it_is_not_held(changes: dict[str, Any], complaint: str) -> None:
    figures = judged(**changes)
    assert (figures["valid"], figures["held"]) == (True, False)
    assert verdict("H264", figures) == f"H264: NOT held: {complaint}"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"size": "320x180"}, "the clip is 320x180, the bars are for 640x360; give another --clip"),
        ({"sent_fps": 29.4}, "the peer sent 29.4 frames a second of 30; free a CPU core for it"),
        ({"delays": 999}, "999 delays are too few samples for p99, 1000 are needed; give it more --seconds"),
    ],
)
def test_a_call_that_says_nothing_of_the_bars_is_invalid(changes: dict[str, Any], complaint: str) -> None:
    figures = judged(**changes)
    assert (figures["valid"], figures["held"]) == (False, False)
    assert verdict("VP8", figures) == f"VP8: INVALID: {complaint}"


def test_the_table_has_a_line_of_each_codec() -> None:
    written = StringIO()
    slow = judged(back_fps=12.999, delay_p50_ms=109.3, delay_p99_ms=171.6, delay_max_ms=190.0, dropped=59)
    Console(file=written, width=120).print(table({"VP8": judged(), "H264": slow}))
    lines = [line.split() for line in written.getvalue().splitlines()]
    assert ["VP8", "29.00", "11.3", "33.0", "61.4", "7", "10.0", "12.0", "0.31"] in lines
    assert ["H264", "13.00", "109.3", "171.6", "190.0", "59", "10.0", "12.0", "0.31"] in lines


def test_what_a_peer_says_is_read_with_its_one_track() -> None:
    said = peer()
    assert read_peer(0, json.dumps({**said, "relay": [said["relay"]]}) + "\n", "") == said


@pytest.mark.parametrize(
    ("status", "said", "complaints", "told"),
    [
        (1, None, "a warning\nhttp://127.0.0.1:9: the relay ended the video\n", "status 1: http://127.0.0.1:9: the re"),
        (-11, None, "", "the peer ended with status -11: it says nothing"),
        (1, {"back": 0, "sent": 812}, "", "the peer sent 812 frames and got none back"),
        (
            0,
            {"composed": 0, "background_only": 64},
            "",
            "no picture of 1330 frames; back came the background alone (64)",
        ),
    ],
)
def test_a_peer_that_failed_is_told_in_one_line(
    status: int, said: dict[str, Any] | None, complaints: str, told: str
) -> None:
    figures = peer(**(said or {}))
    line = "" if said is None else json.dumps({**figures, "relay": [figures["relay"]]})
    with pytest.raises(TargetError) as failed:
        read_peer(status, line, complaints)
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("tracks", [0, 2])
def test_figures_of_another_number_of_tracks_are_none_of_this_call(tracks: int) -> None:
    figures = peer()
    with pytest.raises(TargetError, match=f"figures of {tracks} tracks"):
        read_peer(0, json.dumps({**figures, "relay": [figures["relay"]] * tracks}), "")


def test_a_package_that_is_not_there_is_named_with_what_brings_it() -> None:
    check_installed(["json"])
    with pytest.raises(TargetError, match=r"needs no_such_package, not installed here; pip install -e '.\[examples\]'"):
        check_installed(["json", "no_such_package"])
