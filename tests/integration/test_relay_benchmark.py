"""``python -m benchmarks.relay`` as people call it, short, with real peers; and what becomes of it when one dies."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import relay, relay_programs
from humanseg.video import VideoWriter
from support.server import ROOT
from support.timing import limit_s

for needed in relay_programs.NEEDED:
    pytest.importorskip(needed, reason=f"needs {needed}: pip install -e '.[examples]'")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, which costs the peer little."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, Fraction(30)) as writer:
        for level in range(0, 200, 20):
            writer.write(np.full((96, 160, 3), level, np.uint8))
    return path


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The command takes some over, which are those of the tests here."""
    taken = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in taken.items():
        signal.signal(number, handler)


def command(models: Path, clip: Path, out: Path, *flags: str) -> list[str]:
    return [
        sys.executable, "-m", "benchmarks.relay", "--model", "medium", "--models", str(models), "--clip", str(clip),
        "--out", str(out), *flags,
    ]  # fmt: skip


@contextmanager
def while_measuring(command: list[str], out: Path) -> "Iterator[subprocess.Popen[str]]":
    """It runs, and its peer is connected; afterwards none of its processes may be left."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    family: list[psutil.Process] = []
    try:
        end_s = time.monotonic() + limit_s(60)
        log = out / "relay-VP8.log"
        while not (log.exists() and "is connected" in log.read_text()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end_s, "the peer was not connected"
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert {"service", "examples.relay", "examples.peer"} <= {word for one in family for word in one.cmdline()}
        yield process
        assert [one for one in family if one.is_running()] == []
    finally:
        for one in family:
            if one.is_running():
                one.kill()
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.timeout(limit_s(180))
@pytest.mark.slow
def test_both_codecs_are_measured_and_reported(models_folder: Path, clip: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(models_folder, clip, tmp_path, "--seconds", "3"),
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(150), check=False,
    )  # fmt: skip
    assert done.returncode == relay.NOT_HELD, done.stderr  # so few delays of so small a clip are INVALID
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["held"]
    assert list(report["codecs"]) == ["VP8", "H264"]
    for codec, figures in report["codecs"].items():
        assert f"{codec}: INVALID: the clip is 160x96, the bars are for 640x360" in done.stdout
        counts = figures["relay"]
        assert 0 < figures["back"] <= counts["composed"] == counts["delays"] <= counts["received"]
        # Two of the three seconds are in the rate.
        assert 0 < figures["back_fps"] <= figures["back"] / 2 + 0.01
        assert figures["sent_fps"] > 0
        assert 0 < counts["delay_p50_ms"] <= counts["delay_p99_ms"] <= counts["delay_max_ms"]
        assert all(cpu_ms > 0 for cpu_ms in figures["cpu_ms_per_picture"].values())
    assert "event=stopped sessions_cut=0" in (tmp_path / "server.log").read_text()


@pytest.mark.timeout(limit_s(120))
@pytest.mark.slow
def test_ctrl_c_leaves_no_process(models_folder: Path, clip: Path, tmp_path: Path) -> None:
    with while_measuring(command(models_folder, clip, tmp_path), tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=limit_s(30))
    assert process.returncode == relay.INTERRUPTED
    assert told == "benchmarks/relay.py: interrupted; service, relay and peer are stopped\n"
    assert not (tmp_path / "report.json").exists()
    # Ended first, and not by the relay's end.
    assert (tmp_path / "peer-VP8.log").read_text() == ""


@pytest.mark.timeout(limit_s(120))
@pytest.mark.slow
def test_a_relay_that_dies_is_named(models_folder: Path, clip: Path, tmp_path: Path) -> None:
    with while_measuring(command(models_folder, clip, tmp_path), tmp_path) as process:
        for child in psutil.Process(process.pid).children():
            if "examples.relay" in child.cmdline():
                child.kill()
        _, told = process.communicate(timeout=limit_s(30))
    assert process.returncode == relay.FAILED
    assert told.startswith("benchmarks/relay.py: the relay ended with status -9\n"), told
    assert "Traceback" not in told


@pytest.mark.usefixtures("own_signals")
def test_a_clip_that_is_not_there_is_told_before_anything_starts(
    models_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no.mp4"
    status = relay.main(command(models_folder, missing, tmp_path)[3:])
    assert status == relay.FAILED
    assert capsys.readouterr().err == f"benchmarks/relay.py: {missing}: no such file or directory\n"
    assert not (tmp_path / "server.log").exists()


@pytest.mark.usefixtures("own_signals")
def test_without_a_package_it_says_what_to_install(
    models_folder: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_programs, "NEEDED", ("no_such_package",))
    assert relay.main(command(models_folder, clip, tmp_path)[3:]) == relay.FAILED
    assert "benchmarks/relay.py: the relay needs no_such_package, not installed here" in capsys.readouterr().err
    assert not (tmp_path / "server.log").exists()


def test_too_short_a_call_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        relay.parse_arguments(["--seconds", "1"])
    assert "--seconds 1: at least 2" in capsys.readouterr().err
