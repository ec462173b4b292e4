"""The server that is measured: started here as a process of its own, or one that runs already.

Either way it is spoken to over the wire only. Start, ready and stop are those of `python -m service`: one stderr line
with ``event=ready`` names the ports, SIGTERM drains, exit status 0.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from benchmarks.machine import ROOT
from benchmarks.scrape import ScrapeError, Snapshot, scrape
from humanseg.access import check_target

#: Keeps glibc from giving every large message's memory back: 360p costs 0.58 instead of 1.04 ms CPU a frame in the bare
#: gRPC path. They must stand before the process starts; the Dockerfile sets the same (a test compares).
MALLOC_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
}
#: What is measured is the load and the model asked for, not what a server would make of them.
AS_ASKED_ENVIRONMENT = {"HUMANSEG_ADMISSION_LOAD": "0", "HUMANSEG_DEGRADE": "false"}
#: Models load, get warm, and the machine may be busy.
START_TIMEOUT_S = 120.0
#: What a server needs to end beyond its own drain time, before it is killed.
STOP_MARGIN_S = 15.0
LOG_TAIL_LINES = 12
POLL_S = 0.05


#: What a client may be connected by to a server started here.
TRANSPORTS = ("tcp", "unix")


class TargetError(Exception):
    """The server cannot be started, reached or stopped; one line for people, perhaps a log's tail below it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server process had used up at one moment."""

    cpu_s: float
    """User and system time of the process and its children, in seconds since it started."""
    rss_bytes: int


class Target:
    """A server at an address; what can be read of it depends on whether it is ours."""

    #: How often its use of the machine is looked at during a run: reading the metrics page costs the server some ms.
    sample_every_s = 5.0

    def __init__(self, address: str, metrics_url: str | None) -> None:
        self.address = address
        self.metrics_url = metrics_url

    def metrics(self) -> Snapshot | None:
        """Its metrics now; None if it was attached to without an address for them.

        Raises:
            ScrapeError: they cannot be read.
        """
        return scrape(self.metrics_url) if self.metrics_url else None

    def usage(self) -> Usage | None:
        """CPU time and memory of its process; None if neither the process nor its metrics can be seen."""
        page = self.metrics()
        if page is None:
            return None
        return Usage(page.value("process_cpu_seconds_total"), round(page.value("process_resident_memory_bytes")))

    def check_alive(self) -> None:
        """Do nothing if the server may still be there.

        Raises:
            TargetError: it is known to have ended.
        """


class LocalServer(Target):
    """`python -m service` as a child, on free ports; a context manager that stops it."""

    sample_every_s = 1.0
    #: What errors call it.
    name = "server"

    def __init__(
        self,
        log_path: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        cpus: str | None = None,
        transport: str = "tcp",
        niceness: int = 0,
    ) -> None:
        """Nothing is started yet.

        Args:
            log_path: where its stderr goes; the folder must exist.
            arguments: further flags of ``python -m service``.
            environment: further variables for it.
            cpus: CPUs that it may use, as ``0,2-3``; None: all.
            transport: one of `TRANSPORTS`; its address is that of the port, or of a Unix socket in a folder of its own.
            niceness: added to ours, 0 to 19: a load generator on the same cores is woken first, and so sends on time.

        Raises:
            TargetError: ``cpus`` cannot be read.
        """
        super().__init__("", None)
        self.log_path = log_path
        self.exit_status: int | None = None
        self._arguments = list(arguments)
        self._uses_socket = transport == "unix"
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None
        self._cpus = None if cpus is None else read_cpus(cpus)
        self.niceness = niceness
        self._extra_environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of its process.

        Raises:
            TargetError: it is not running.
        """
        if self._process is None:
            raise TargetError(f"the {self.name} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def command(self) -> list[str]:
        """What is started, without the further flags."""
        # Flags win over HUMANSEG_* variables that a user has set: without these it could not be found.
        return [
            sys.executable, "-m", "service", "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0",
            "--log-format", "logfmt", "--log-level", "info",
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        """All variables that it gets."""
        return {**MALLOC_ENVIRONMENT, **AS_ASKED_ENVIRONMENT, **os.environ, **self._extra_environment}

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            TargetError: it ended or stayed silent; the log's tail is in the message.
        """
        sockets: list[str] = []
        if self._uses_socket:
            # Not beside the log: a socket's path must be short.
            self._socket_folder = tempfile.TemporaryDirectory(prefix="humanseg-")
            sockets = ["--socket-file", str(self._socket_path)]
        with self.log_path.open("wb") as log, pinned(self._cpus):
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it in order.
            # `nice` becomes the server itself: the same process, whose threads all inherit it.
            self._process = subprocess.Popen(
                ["nice", "-n", str(self.niceness), *self.command(), *sockets, *self._arguments],
                cwd=ROOT,
                env={**self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop(grace_s=1.0)
            raise

    @property
    def _socket_path(self) -> Path | None:
        return Path(self._socket_folder.name) / "s" if self._socket_folder else None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in self.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
                if self.is_ready(line):
                    return
            self.check_alive()
            time.sleep(POLL_S)
        raise TargetError(f"the {self.name} was not ready within {START_TIMEOUT_S:.0f} s\n{self.log_tail()}")

    def is_ready(self, line: str) -> bool:
        """Whether a line of its log says so; if it does, the addresses are known from then on.

        Raises:
            TargetError: it says so without naming its ports.
        """
        if "event=ready" not in line:
            return False
        ports = dict(re.findall(r"\b(port|metrics_port)=(\d+)", line))
        if len(ports) < 2:
            raise TargetError(f"the server's ready line names no port and metrics_port: {line}")
        path = self._socket_path
        self.address = f"unix:{quote(str(path))}" if path else f"127.0.0.1:{ports['port']}"
        self.metrics_url = f"http://127.0.0.1:{ports['metrics_port']}/metrics"
        return True

    def check_alive(self) -> None:
        """Do nothing if the process runs.

        Raises:
            TargetError: it ended; the log's tail is in the message.
        """
        status = self._process.poll() if self._process else None
        if status is not None:
            raise TargetError(f"the {self.name} ended with status {status}\n{self.log_tail()}")

    def settings(self) -> dict[str, str]:
        """The settings that it says it runs with, as its log has them; empty before it has said so."""
        for line in self.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
            if " event=starting " in line:
                pairs = [word.partition("=") for word in shlex.split(line.partition(" event=starting ")[2])]
                return {name: value for name, _, value in pairs}
        return {}

    def log_tail(self) -> str:
        """The last lines of its log, indented."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (its log is empty)"

    def usage(self) -> Usage | None:
        """CPU time and memory of the process and its children, from the system; None once it ended."""
        if self._process is None:
            return None
        try:
            family = [psutil.Process(self._process.pid)]
            family += family[0].children(recursive=True)
            times = [process.cpu_times() for process in family]
            rss_bytes = sum(process.memory_info().rss for process in family)
        except psutil.NoSuchProcess:
            return None
        return Usage(sum(time.user + time.system for time in times), rss_bytes)

    def stop(self, grace_s: float | None = None) -> int | None:
        """End it by SIGTERM, by force if it does not end; its exit status (also in `exit_status`), None if not started.

        Args:
            grace_s: how long it may take; left out, the default drain time and a margin.
        """
        process = self._process
        if process is None:
            return self.exit_status
        self._process = None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            self.exit_status = process.wait(timeout=20.0 + STOP_MARGIN_S if grace_s is None else grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            self.exit_status = process.wait()
        except BaseException:
            # A second Ctrl-C while it drains: leave nothing behind.
            process.kill()
            process.wait()
            raise
        finally:
            if self._socket_folder is not None:
                self._socket_folder.cleanup()
        return self.exit_status


def read_cpus(text: str) -> set[int]:
    """CPU numbers as ``0,2-3``.

    Raises:
        TargetError: it cannot be read.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (not last or last.isdecimal())):
            raise TargetError(f"CPU list {text!r} cannot be read; write it like 0,2-3")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


@contextmanager
def pinned(cpus: set[int] | None) -> Iterator[None]:
    """Run on these CPUs meanwhile: a process started here inherits that, and counts its CPUs right from the start."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise TargetError(f"cannot run on CPUs {sorted(cpus)}: {error}; usable are {sorted(before)}") from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def attach(address: str, metrics_url: str | None) -> Target:
    """Take a server that runs already.

    Raises:
        TargetError: the address cannot be one, or its metrics cannot be read.
    """
    try:
        check_target(address)
    except ValueError as error:
        raise TargetError(f"target {error}") from None
    target = Target(address, metrics_url)
    try:
        target.metrics()
    except ScrapeError as error:
        raise TargetError(str(error)) from None
    return target
