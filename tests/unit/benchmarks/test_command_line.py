"""Flags that depend on one another, and the combinations of a sweep."""

import pytest

from benchmarks.command_line import LADDER, QUICK_LADDER, parse_arguments
from humanseg.vision.arrays import Size


def test_quick_shortens_what_was_not_said() -> None:
    usual, quick = parse_arguments([]), parse_arguments(["--quick", "--seconds", "30"])
    assert (usual.seconds, usual.warmup_s, usual.step_s, usual.ladder) == (40, 3, 8, LADDER)
    assert (quick.seconds, quick.warmup_s, quick.step_s, quick.ladder) == (30, 1, 4, QUICK_LADDER)
    assert parse_arguments(["--ladder", "none"]).ladder == ()
    assert parse_arguments(["--quick", "--ladder", "0.1,2"]).ladder == (0.1, 2.0)


def test_a_sweep_is_every_combination_with_server_flags_changing_slowest() -> None:
    options = parse_arguments(
        ["--sweep", "size=640x360,1280x720", "--sweep", "server.runners=1,2", "--server-flag", "max-batch=4"]
    )
    assert [name for name, _ in options.cells] == [
        "server.runners=1 size=640x360",
        "server.runners=1 size=1280x720",
        "server.runners=2 size=640x360",
        "server.runners=2 size=1280x720",
    ]
    last = options.cells[-1][1]
    assert last.size == Size(1280, 720)
    assert last.server_flag == ["max-batch=4", "runners=2"]
    assert options.server_flag == ["max-batch=4"], "cells have their own"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep", "sessions"], "must be KEY=A,B,.. with KEY one of sessions, fps"),
        (["--sweep", "seed=1,2"], "must be KEY=A,B,.."),
        (["--sweep", "server.port=1,2"], "must be KEY=A,B,.."),
        (["--sweep", "sessions=1,0"], "--sweep sessions: '0' must be a whole number"),
        (["--sweep", "format=png"], "'png' must be one of i420, rgb24, jpeg"),
        (["--sweep", "arrivals=never"], "--sweep arrivals: 'never' is not a valid Arrivals"),
        (["--sweep", "fps="], "names no values"),
        (["--sweep", "server.runners=1", "--target", "h:1"], "is for the server started here"),
        (["--sweep", "fps=1", "--find-capacity"], "not allowed with"),
        (["--server-nice", "-5"], "'-5' must be a whole number from 0 to 19"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(flags)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
