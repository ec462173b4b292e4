"""A small server that speaks Triton's protocol and runs the red model by formula, with faults as data.

In the test's own process, so that a call can be held up and let go at will. The real Triton is in tests/triton_server.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from engines.onnxruntime_model import inspect
from engines.triton_config import config_text
from engines.triton_names import triton_version
from engines.triton_serving import Backend, Device, ServingPlan
from humanseg.shared_memory import FOLDER
from support.timing import limit_s

PLAN = ServingPlan(Backend.PYTHON, Device.CPU, 8, (), 0, 1, 1)


@dataclass(frozen=True)
class Place:
    """Where in shared memory a tensor lies."""

    name: str
    offset: int
    size: int

    @classmethod
    def of(cls, port: Any) -> "Place | None":
        given = port.parameters
        if "shared_memory_region" not in given:
            return None
        offset, size = given["shared_memory_offset"].int64_param, given["shared_memory_byte_size"].int64_param
        return cls(given["shared_memory_region"].string_param, offset, size)

    def read(self, file: Any) -> bytes:
        return os.pread(file.fileno(), self.size, self.offset)

    def write(self, file: Any, alphas: bytes) -> None:
        assert len(alphas) == self.size
        os.pwrite(file.fileno(), alphas, self.offset)


@dataclass
class KserveServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # the stubs have no types
    """What it has, and what it does wrong."""

    model: Path
    configs: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    port: int = 0
    faults: list[grpc.StatusCode | None] = field(default_factory=list)
    """What becomes of the next calls of ModelInfer; None: an answer. Behind the last everything is answered."""
    answer_bytes: int | None = None
    """How much of an answer is sent; None: all."""
    is_ready: bool = True
    inferred: list[int] = field(default_factory=list)
    """Batch sizes asked for."""
    hold: threading.Event = field(default_factory=threading.Event)
    """While it is not set, ModelInfer waits."""
    regions: dict[str, Any] = field(default_factory=dict)
    """Open shared memory by the name it was registered by."""
    opens_regions: bool = True
    answers_in_memory: bool = True
    inferred_in: list[str] = field(default_factory=list)
    """The regions of batches."""
    raw_bytes: int = 0
    """Of pictures in messages."""
    _server: Any = None

    def __post_init__(self) -> None:
        inspected = inspect(self.model)
        self.hold.set()
        self.version = triton_version(inspected.sha256)
        for canvas in inspected.metadata.canvases:
            response = service_pb2.ModelConfigResponse()
            text_format.Parse(config_text(inspected, canvas, PLAN), response.config)
            self.configs[response.config.name] = response.config

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self.hold.set()
        self._server.stop(0).wait(limit_s(10))

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="triton", version="0.0.0")

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        index = service_pb2.RepositoryIndexResponse()
        for name in self.configs:
            index.models.add(name=name, version=self.version, state="READY")
        return index

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.is_ready and self._has(request.name, request.version))

    def ModelConfig(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=self.configs[request.name])

    def ModelInfer(self, request: Any, context: Any) -> Any:
        shape = tuple(request.inputs[0].shape)
        self.inferred.append(shape[0])
        self.hold.wait(limit_s(20))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            _abort(context, fault)
        if not self._has(request.model_name, request.model_version):
            _abort(context, grpc.StatusCode.NOT_FOUND)
        self.raw_bytes += sum(len(raw) for raw in request.raw_input_contents)
        place = Place.of(request.inputs[0])
        if place is not None:
            self.inferred_in.append(place.name)
            if place.name not in self.regions:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to find shared memory region: '{place.name}'")
            picture = place.read(self.regions[place.name])
        else:
            picture = request.raw_input_contents[0]
        batch = np.frombuffer(picture, np.uint8).reshape(shape)
        alpha = (batch[..., 0] / 255).astype(np.float32)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        answer.outputs.add(name="alpha", datatype="FP32", shape=alpha.shape)
        out = Place.of(request.outputs[0])
        if out is not None and self.answers_in_memory:
            out.write(self.regions[out.name], alpha.tobytes())
            answer.raw_output_contents.append(b"")
        else:
            answer.raw_output_contents.append(alpha.tobytes()[: self.answer_bytes])
        return answer

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        if not self.opens_regions:
            context.abort(grpc.StatusCode.INTERNAL, f"Unable to open shared memory region: '{request.key}'")
        self.regions[request.name] = (FOLDER / request.key.removeprefix("/")).open("r+b", buffering=0)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        if request.name in self.regions:
            self.regions.pop(request.name).close()
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def _has(self, name: str, version: str) -> bool:
        return name in self.configs and version == self.version


def _abort(context: Any, code: grpc.StatusCode) -> NoReturn:
    context.abort(code, f"made up {code.name}")
    raise AssertionError("abort raises")


@contextmanager
def kserve_server(model: Path) -> Iterator[KserveServer]:
    server = KserveServer(model)
    server.start()
    try:
        yield server
    finally:
        server.stop()
