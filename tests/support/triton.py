"""A real Triton Inference Server: the program in the nvidia-pytriton wheel, without a container.

`make triton-check` installs it. The wheel has the Python backend only. Its stub takes its packages from the environment
whose python stands first in PATH, and must find that Python's library.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import psutil
from tritonclient.grpc import service_pb2, service_pb2_grpc

from engines import repository
from engines.remote import RemoteServers
from support.timing import limit_s

#: Asked for by name, so that `make test` does not take minutes longer where one happens to be installed.
HOME = Path(os.environ["TRITON_HOME"]) if "TRITON_HOME" in os.environ else None
SHARED_MEMORY = Path("/dev/shm")


def why_no_triton() -> str | None:
    """Why there is none here; None: there is."""
    if HOME is None:
        return "TRITON_HOME names no Triton Inference Server; `make triton-check` installs and tries one"
    return None if (HOME / "installed").exists() else f"no Triton Inference Server in TRITON_HOME={HOME}"


def write_repository(models: Path, out: Path, *flags: str) -> None:
    assert repository.main(["--models", str(models), "--out", str(out), *flags]) == 0


@dataclass
class TritonProcess:
    """A server on ports of its own; they stay the same when it is started again."""

    models: Path
    """The model repository."""
    log_file: Path
    grpc_port: int = 0
    http_port: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def __post_init__(self) -> None:
        with ExitStack() as stack:
            taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            self.grpc_port, self.http_port = (one.getsockname()[1] for one in taken)
        self._prefix = f"triton_test_{self.grpc_port}_"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def servers(self) -> RemoteServers:
        return RemoteServers((self.address,), limit_s(20))

    def start(self) -> None:
        """Start it and wait until it is ready."""
        assert HOME is not None, why_no_triton()
        python = HOME / "venv" / "bin" / "python"
        paths, library = subprocess.run(
            [python, "-c", "import sysconfig as s; print(s.get_path('purelib'), s.get_config_var('LIBDIR'))"],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        program = Path(paths) / "pytriton" / "tritonserver"
        command = [
            str(program / "bin" / "tritonserver"), f"--model-repository={self.models}",
            f"--backend-directory={program / 'backends'}", f"--cache-directory={program / 'caches'}",
            "--http-address=127.0.0.1", f"--http-port={self.http_port}", "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}", "--allow-metrics=false", "--exit-on-error=true",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PATH": f"{HOME / 'venv' / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        }
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + limit_s(60)
        while not self._is_ready():
            assert self.process.poll() is None, self.log_file.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log_file.read_text()[-4000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """As the kernel does when memory runs out, or a node dies: no goodbye. Its stubs go with it."""
        assert self.process is not None
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(limit_s(20))
        psutil.wait_procs(family, limit_s(20))
        self._sweep()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(limit_s(20))
            except subprocess.TimeoutExpired:
                self.kill()
        self._sweep()

    def statistics(self) -> "dict[str, tuple[int, int, int]]":
        """Of each model: requests answered, pictures in them, runs of the model."""
        with grpc.insecure_channel(self.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(), timeout=limit_s(10))
        return {
            one.name: (one.inference_stats.success.count, one.inference_count, one.execution_count)
            for one in answer.model_stats
        }

    def regions(self) -> list[str]:
        """Names of the shared memory that is registered."""
        with grpc.insecure_channel(self.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest(), timeout=limit_s(10))
        return sorted(answer.regions)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _sweep(self) -> None:
        """A killed server leaves its shared memory behind."""
        for region in SHARED_MEMORY.glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)


@contextmanager
def running_triton(models: Path, *flags: str) -> Iterator[TritonProcess]:
    """A server with the models of a folder of ONNX files."""
    with TemporaryDirectory() as folder:
        write_repository(models, Path(folder) / "repository", *flags)
        triton = TritonProcess(Path(folder) / "repository", Path(folder) / "log")
        try:
            triton.start()
            yield triton
        finally:
            triton.stop()


@contextmanager
def running_triton_with(model: Path, *flags: str) -> Iterator[TritonProcess]:
    """A server with one ONNX file."""
    with TemporaryDirectory() as folder:
        shutil.copyfile(model, Path(folder) / model.name)
        with running_triton(Path(folder), *flags) as triton:
            yield triton
