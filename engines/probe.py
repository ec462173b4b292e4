"""Which NVIDIA GPUs can be used here, found out by a child process: ``python -m engines.probe``.

Before this has said yes, no object of CUDA or TensorRT may exist in the process: without a driver TensorRT's lean
runtime ends it with a segmentation fault, and a broken driver can crash or hang whoever loads it. A probe never raises
for what the driver does; what went wrong becomes a `Problem` with a text.

Exit status of the command: 0 a usable GPU was found, 1 none.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

CHILD = Path(__file__).with_name("probe_child.py")
#: A host with eight GPUs and no persistence daemon takes some ten seconds to wake its driver.
TIMEOUT_S = 60.0
#: After a kill; a process that hangs inside the kernel survives even that, and is left behind.
KILL_S = 5.0
NO_DEVICE_STATUS = 100
KERNEL_MODULE_VERSION = Path("/sys/module/nvidia/version")


class Problem(Enum):
    """Why no GPU can be used."""

    NO_DRIVER = "no driver"
    BROKEN_DRIVER = "broken driver"
    NO_DEVICE = "no device"
    CRASHED = "crashed"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as the driver describes it."""

    index: int
    """As CUDA counts, after CUDA_VISIBLE_DEVICES."""
    name: str
    compute_capability: tuple[int, int]
    total_bytes: int = 0
    free_bytes: int = 0
    fault: str | None = None
    """Why this device cannot be used, although it is there."""

    @property
    def capability(self) -> str:
        """The compute capability in NVIDIA's form, ``8.9``."""
        return ".".join(map(str, self.compute_capability))

    @property
    def described(self) -> str:
        """For people: ``GPU 0 NVIDIA L4 (compute capability 8.9)``."""
        return f"GPU {self.index} {self.name} (compute capability {self.capability})"


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """What the child found; ``text`` is one line for people."""

    text: str
    problem: Problem | None = None
    devices: tuple[Device, ...] = ()
    cuda_version: str | None = None
    """Newest CUDA that the driver serves, for example ``13.0``."""
    driver_version: str | None = None
    """Of the kernel module, for example ``580.95.05``; None where Linux does not tell (WSL)."""

    @property
    def usable(self) -> tuple[Device, ...]:
        """The devices without a fault."""
        return tuple(device for device in self.devices if device.fault is None)


def probe(*, timeout_s: float = TIMEOUT_S, environment: Mapping[str, str] | None = None) -> ProbeOutcome:
    """Ask the driver, in a process of its own.

    Args:
        timeout_s: how long the driver may take altogether.
        environment: of the child; None for that of this process.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", str(CHILD)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    try:
        output, hung = child.communicate(timeout=timeout_s)[0], False
    except subprocess.TimeoutExpired:
        child.kill()
        output, hung = "", True
        with suppress(subprocess.TimeoutExpired):
            output, _ = child.communicate(timeout=KILL_S)
    said = _read_lines(output)
    where = next((str(line["calling"]) for line in reversed(said) if "calling" in line), "its start")
    if hung:
        return ProbeOutcome(
            f"the NVIDIA driver did not answer within {timeout_s:g} s in {where};"
            " look at `nvidia-smi` and the kernel's log, a reboot may be needed",
            Problem.HUNG,
        )
    if child.returncode or not said or "calling" in said[-1]:
        return ProbeOutcome(
            f"the NVIDIA driver ended the probe in {where} ({_ending(child.returncode)});"
            " its libraries and its kernel module may be of different versions: install it anew",
            Problem.CRASHED,
        )
    return _outcome(said[-1])


def _read_lines(output: str) -> list[dict[str, object]]:
    said = []
    for line in output.splitlines():
        with suppress(ValueError):  # a driver library may write to standard output as well
            value = json.loads(line)
            if isinstance(value, dict):
                said.append(value)
    return said


def _ending(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"


def _outcome(answer: Mapping[str, object]) -> ProbeOutcome:
    if "load_error" in answer:
        if str(answer["load_error"]).startswith("libcuda.so.1: cannot open shared object file"):
            return ProbeOutcome(
                "no NVIDIA driver here (libcuda.so.1 was not found); install the GPU's driver,"
                " or give the container its GPUs (docker run --gpus all)",
                Problem.NO_DRIVER,
            )
        return ProbeOutcome(
            f"the NVIDIA driver's library cannot be used ({answer['load_error']}); install the driver anew",
            Problem.BROKEN_DRIVER,
        )
    version = answer["cuda_version"]
    cuda_version = f"{version // 1000}.{version % 1000 // 10}" if isinstance(version, int) else None
    if "failed" in answer and answer["status"] != NO_DEVICE_STATUS:
        return ProbeOutcome(
            f"the NVIDIA driver (CUDA {cuda_version}) failed: {answer['failed']} answered {answer['name']}"
            f" ({answer['status']}); look at `nvidia-smi` and the kernel's log",
            Problem.BROKEN_DRIVER,
            cuda_version=cuda_version,
        )
    devices = tuple(_device(found) for found in answer.get("devices", []))  # type: ignore[attr-defined]
    if not devices:
        return ProbeOutcome(
            f"the NVIDIA driver (CUDA {cuda_version}) sees no GPU; look at `nvidia-smi`, at CUDA_VISIBLE_DEVICES,"
            " and whether the container was given its GPUs",
            Problem.NO_DEVICE,
            cuda_version=cuda_version,
        )
    faults = [f"device {device.index} {device.name}: {device.fault}" for device in devices if device.fault]
    names = [f"{device.index} {device.name} (sm_{''.join(map(str, device.compute_capability))})" for device in devices]
    return ProbeOutcome(
        f"CUDA {cuda_version}, {', '.join(names)}" + "".join(f"; {fault}" for fault in faults),
        Problem.NO_DEVICE if len(faults) == len(devices) else None,
        devices,
        cuda_version,
        _kernel_module_version(),
    )


def _device(found: Mapping[str, object]) -> Device:
    numbers = {key: value for key, value in found.items() if isinstance(value, int)}
    return Device(
        index=numbers["index"],
        name=str(found["name"]),
        compute_capability=(numbers["major"], numbers["minor"]),
        total_bytes=numbers.get("total_bytes", 0),
        free_bytes=numbers.get("free_bytes", 0),
        fault=str(found["fault"]) if "fault" in found else None,
    )


def _kernel_module_version() -> str | None:
    try:
        return KERNEL_MODULE_VERSION.read_text().strip()
    except OSError:
        return None


def main() -> int:
    """Say what the driver sees; returns the exit status."""
    outcome = probe()
    print(outcome.text)
    return 0 if outcome.usable else 1


if __name__ == "__main__":
    sys.exit(main())
