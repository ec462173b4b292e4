"""Drivers of every kind against a real child process: whatever the driver does, the answer is a line of text."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engines.probe import Problem, probe
from support.drivers import build_driver, environment_with
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SLEEP_FOR_EVER = "{ for (;;) sleep(1000); }"


def with_text_as_driver(tmp_path: Path) -> dict[str, str]:
    """The loader finds what comes first, also where the machine has a driver: here no library at all."""
    (tmp_path / "libcuda.so.1").write_text("not a library")
    return environment_with(tmp_path)


def test_a_gpu_is_described(tmp_path: Path) -> None:
    outcome = probe(environment=build_driver(tmp_path))
    assert outcome.problem is None
    assert outcome.cuda_version == "13.0"
    (device,) = outcome.usable
    assert (device.name, device.compute_capability) == ("Drawn GPU", (8, 9))
    assert (device.free_bytes, device.total_bytes) == (3 << 30, 4 << 30)
    assert outcome.text == "CUDA 13.0, 0 Drawn GPU (sm_89)"


def test_a_gpu_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    """As a device in exclusive mode does that another process holds."""
    bodies = {
        "cuDeviceGetCount": "(int *count) { *count = 2; return 0; }",
        "cuDevicePrimaryCtxRetain": "(void **context, int device) { *context = &marker; return device ? 46 : 0; }",
    }
    outcome = probe(environment=build_driver(tmp_path, **bodies))
    assert outcome.problem is None
    assert [device.index for device in outcome.usable] == [0]
    assert "device 1 Drawn GPU: cuDevicePrimaryCtxRetain answered CUDA_ERROR_DRAWN (46)" in outcome.text


def test_no_gpu_at_all_can_be_used(tmp_path: Path) -> None:
    outcome = probe(environment=build_driver(tmp_path, cuMemGetInfo_v2="(void *a, void *b) { return 2; }"))
    assert outcome.problem is Problem.NO_DEVICE
    assert not outcome.usable
    assert "cuMemGetInfo_v2 answered CUDA_ERROR_DRAWN (2)" in outcome.text


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA driver")
def test_a_machine_without_a_driver() -> None:
    outcome = probe()
    assert outcome.problem is Problem.NO_DRIVER
    assert "libcuda.so.1 was not found" in outcome.text


@pytest.mark.parametrize(
    ("bodies", "problem", "text"),
    [
        ({"cuInit": "(unsigned f) { return 100; }"}, Problem.NO_DEVICE, "sees no GPU"),
        ({"cuDeviceGetCount": "(int *c) { *c = 0; return 0; }"}, Problem.NO_DEVICE, "sees no GPU"),
        (
            {"cuInit": "(unsigned f) { return 803; }"},
            Problem.BROKEN_DRIVER,
            r"cuInit answered CUDA_ERROR_DRAWN \(803\)",
        ),
        ({"cuInit": None}, Problem.BROKEN_DRIVER, "undefined symbol: cuInit"),
        ({"cuInit": "(unsigned f) { *(volatile int *)0 = 1; return 0; }"}, Problem.CRASHED, r"cuInit \(SIGSEGV\)"),
        ({"cuDeviceGet": "(int *d, int i) { abort(); }"}, Problem.CRASHED, r"cuDeviceGet \(SIGABRT\)"),
        ({"cuInit": "(unsigned f) { exit(0); }"}, Problem.CRASHED, r"cuInit \(exit status 0\)"),
    ],
)
def test_a_driver_that_fails(tmp_path: Path, bodies: dict[str, str | None], problem: Problem, text: str) -> None:
    outcome = probe(environment=build_driver(tmp_path, **bodies))
    assert outcome.problem is problem
    assert not outcome.usable
    assert re.search(text, outcome.text)
    assert "\n" not in outcome.text


def test_a_driver_that_is_no_library(tmp_path: Path) -> None:
    outcome = probe(environment=with_text_as_driver(tmp_path))
    assert outcome.problem is Problem.BROKEN_DRIVER
    assert "file too short" in outcome.text


def test_a_driver_that_hangs(tmp_path: Path) -> None:
    environment = build_driver(tmp_path, cuInit=f"(unsigned f) {SLEEP_FOR_EVER}")
    outcome = probe(timeout_s=limit_s(1), environment=environment)
    assert outcome.problem is Problem.HUNG
    assert "in cuInit" in outcome.text


def test_a_driver_that_writes_where_we_read(tmp_path: Path) -> None:
    chatty = '(unsigned f) { puts("NVRM: hello\\n[1]"); fflush(stdout); return 0; }'
    assert probe(environment=build_driver(tmp_path, cuInit=chatty)).problem is None


@pytest.mark.parametrize(("count", "status"), [(1, 0), (0, 1)])
def test_the_command_says_it_by_its_status(tmp_path: Path, count: int, status: int) -> None:
    environment = build_driver(tmp_path, cuDeviceGetCount=f"(int *c) {{ *c = {count}; return 0; }}")
    command = [sys.executable, "-m", "engines.probe"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (status, 1)
    assert ("Drawn GPU" in done.stdout) is bool(count)
