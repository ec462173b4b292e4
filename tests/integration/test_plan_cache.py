"""The engine cache between real processes: built once, killed in the middle, no room, no right to write."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines.plan_cache import PlanCache
from support import plans
from support.plans import BUILT, KEY
from support.server import ROOT
from support.timing import limit_s

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WAITING = f"another process is building {KEY.stem}; waiting for it\n"


def program(folder: Path) -> list[str]:
    """A process that wants the plan; a build of it takes until its standard input ends."""
    return [sys.executable, plans.__file__, str(folder), str(folder.parent / "builds")]


@contextmanager
def started(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        program(folder), cwd=ROOT, env=ENVIRONMENT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, shell: str) -> "subprocess.CompletedProcess[str]":
    """The same under a shell, for which ``"$@"`` is the program."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", *program(folder)], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def read_to(process: "subprocess.Popen[str]", wanted: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if line == wanted:
            return
    raise AssertionError(f"never said {wanted!r}: {process.stderr.read() if process.stderr else ''}")


def builds(folder: Path) -> int:
    return len((folder.parent / "builds").read_text().splitlines())


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    with started(folder) as first, started(folder) as second:
        # Either may be first; the other is told to wait before the build can end.
        if _begins(first):
            builder, waiter = first, second
            read_to(waiter, WAITING)
        else:
            builder, waiter = second, first
        assert builder.communicate("", timeout=limit_s(60))[0].splitlines()[-1] == "built True"
        assert waiter.communicate("", timeout=limit_s(60))[0] == "found True\n"
    assert builds(folder) == 1


def _begins(process: "subprocess.Popen[str]") -> bool:
    """Whether this process is the one that builds, and not the one that waits; read up to the line that says so."""
    assert process.stdout
    for line in process.stdout:
        if line in ("begun\n", WAITING):
            return line != WAITING
    raise AssertionError(f"said neither: {process.stderr.read() if process.stderr else ''}")


def test_a_builder_that_is_killed_lets_the_next_one_in(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    with started(folder) as first:
        read_to(first, "begun\n")
        with started(folder) as second:
            read_to(second, WAITING)
            first.kill()
            assert second.communicate("", timeout=limit_s(60))[0].splitlines()[-1] == "built True"
    assert builds(folder) == 2
    assert PlanCache(folder).load(KEY).plan == BUILT.plan


def test_no_room_for_the_plan_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit of 4 KiB a file: the write comes back short as on a full disk."""
    folder = tmp_path / "engines"
    done = run(folder, 'ulimit -f 4; exec "$@"')
    expected = f"CacheWriteError: engine cache {folder} cannot be written: File too large; free space there, or take"
    assert expected in done.stderr.splitlines()[-1]
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, of 8 KiB, in a name space of its own that ends with the process."""
    folder = tmp_path / "engines"
    folder.mkdir()
    inside = f'mount -t tmpfs -o size=8k,mode=700 none "{folder}" || exit 77; "$@"; ls -A "{folder}"'
    done = run(folder, f"exec unshare --mount bash -c '{inside}' bash \"$@\"")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert f"engine cache {folder} cannot be written: No space left on device;" in done.stderr
    assert done.stdout.splitlines()[-1] == f"{KEY.stem}.lock"
    assert ".tmp" not in done.stdout
    assert ".plan\n" not in done.stdout


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_cannot_be_written(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "engines"
    folder.mkdir(mode)
    # Root may write anywhere, but not without its capabilities.
    done = run(folder, 'exec setpriv --bounding-set=-all --inh-caps=-all "$@"' if os.geteuid() == 0 else 'exec "$@"')
    folder.chmod(0o700)
    assert f"CacheWriteError: engine cache {folder} cannot be written: Permission denied" in done.stderr, done.stderr
    assert not list(folder.iterdir())
    assert not (tmp_path / "builds").exists()
