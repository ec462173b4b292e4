"""One model on one Triton server: what is asked of it and what its answers mean. Stateless, several threads may use it.

NVIDIA's client is taken for its messages and stubs; its own class is not made for several threads.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from engines.files import one_line
from engines.onnxruntime_model import InspectedModel
from engines.runner import EngineFailedError, EngineUnavailableError
from engines.triton_memory import RegionPool, TensorRegion
from engines.triton_names import HASH_PARAMETER, triton_name, triton_version
from humanseg.vision.arrays import AlphaBatch, Batch, Size

#: A server that comes back is found within a second, not after the two minutes that gRPC would come to wait.
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # a fresh channel is a fresh connection
    ("grpc.max_receive_message_length", -1),
]
#: The server cannot be reached, or has not got the model; anything else is about the batch.
_CANNOT_SERVE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.CANCELLED,
}


class ServerFailed(Exception):
    """The server cannot be reached or has not got the model: another one may do."""


class ServerTooSlow(ServerFailed):
    """No answer in the time that was left: there is none for another server either."""


class WrongModelError(EngineUnavailableError):
    """The server has the model, but not this file of it, or serves it in another way."""


@dataclass(frozen=True, slots=True)
class ModelWanted:
    """What a server must have."""

    inspected: InspectedModel
    max_batch: int

    def triton_names(self) -> dict[Size, str]:
        """The Triton model of each input size."""
        return {canvas: triton_name(self.inspected.metadata, canvas) for canvas in self.inspected.metadata.canvases}


class TritonServer:
    """A connection to one server, for one model."""

    def __init__(self, address: str, wanted: ModelWanted, regions: RegionPool | None) -> None:
        """Opens nothing yet: gRPC connects at the first call. Without regions messages carry pictures and alphas."""
        self.address = address
        self._regions = regions
        self._wanted = wanted
        self._names = wanted.triton_names()
        self._version = triton_version(wanted.inspected.sha256)
        self._channel = grpc.insecure_channel(address, options=_CHANNEL)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        """Break off what is under way."""
        self._channel.close()

    def infer(self, batch: Batch, timeout_s: float) -> AlphaBatch:
        """Have a batch segmented.

        Raises:
            ServerFailed, ServerTooSlow: it is the server's fault.
            EngineFailedError: the model failed on the batch, or what came back is no answer to it.
        """
        if self._regions is not None:
            return self._infer_in_memory(self._regions, batch, timeout_s)
        request = self._request(batch)
        request.raw_input_contents.append(batch.tobytes())
        answer = self._call(self._stub.ModelInfer, request, timeout_s)
        wanted = batch.shape[:3]
        sizes = [len(raw) for raw in answer.raw_output_contents]
        self._require_alphas(answer, batch, [4 * int(np.prod(wanted))], sizes)
        # A copy: protobuf's bytes cannot be written to, and the answer is the caller's own.
        return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(wanted).copy()

    def _request(self, batch: Batch) -> Any:
        name = self._names[Size(batch.shape[2], batch.shape[1])]
        request = service_pb2.ModelInferRequest(model_name=name, model_version=self._version)
        request.inputs.add(name=self._wanted.inspected.input_name, datatype="UINT8", shape=batch.shape)
        request.outputs.add(name=self._wanted.inspected.output_name)
        return request

    def _require_alphas(self, answer: Any, batch: Batch, wanted_sizes: list[int], sizes: list[int]) -> None:
        wanted = batch.shape[:3]
        seen = [(one.name, one.datatype, tuple(one.shape)) for one in answer.outputs]
        if seen != [(self._wanted.inspected.output_name, "FP32", wanted)] or sizes != wanted_sizes:
            raise EngineFailedError(
                f"Triton at {self.address} answers {seen} in {sizes} bytes to {answer.model_name}, expected"
                f" {self._wanted.inspected.output_name} FP32 {wanted}"
            )

    def _infer_in_memory(self, regions: RegionPool, batch: Batch, timeout_s: float) -> AlphaBatch:
        deadline_s = time.monotonic() + timeout_s
        if (region := regions.take()) is not None:
            try:
                return self._infer_in(region, regions, batch, timeout_s)
            except (EngineFailedError, ServerFailed) as error:
                if region.name not in str(error):  # else it does not know the region: it was started again
                    raise
        region = regions.make()
        try:
            self._register(region, max(0.0, deadline_s - time.monotonic()))
        except BaseException:
            regions.discard(region)
            raise
        return self._infer_in(region, regions, batch, max(0.0, deadline_s - time.monotonic()))

    def _infer_in(self, region: TensorRegion, regions: RegionPool, batch: Batch, timeout_s: float) -> AlphaBatch:
        try:
            alpha = self._run_in(region, batch, timeout_s)
        except BaseException:
            regions.discard(region)
            raise
        regions.give_back(region)
        if regions.is_closed:
            self.unregister_retired(timeout_s)
        return alpha

    def _run_in(self, region: TensorRegion, batch: Batch, timeout_s: float) -> AlphaBatch:
        region.write(batch)
        request = self._request(batch)
        wanted = batch.shape[:3]
        for port, size, offset in (
            (request.inputs[0], batch.nbytes, 0),
            (request.outputs[0], 4 * int(np.prod(wanted)), region.alpha_offset_bytes),
        ):
            port.parameters["shared_memory_region"].string_param = region.name
            port.parameters["shared_memory_byte_size"].int64_param = size
            port.parameters["shared_memory_offset"].int64_param = offset
        answer = self._call(self._stub.ModelInfer, request, timeout_s)
        self._require_alphas(answer, batch, [0], [len(raw) for raw in answer.raw_output_contents])
        return region.read(wanted)

    def _register(self, region: TensorRegion, timeout_s: float) -> None:
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=region.key, offset=0, byte_size=region.size_bytes
        )
        try:
            self._call(self._stub.SystemSharedMemoryRegister, request, timeout_s)
        except EngineFailedError as error:
            raise EngineFailedError(
                f"{error}; it must run on this host with the same /dev/shm, as the same user or root, or leave out"
                " --triton-shared-memory"
            ) from error
        region.unlink()

    def unregister_retired(self, timeout_s: float) -> None:
        """Have Triton let go of regions that nobody uses any more; what it cannot now it is asked again."""
        if self._regions is None:
            return
        for name in self._regions.retired():
            request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
            try:
                self._call(self._stub.SystemSharedMemoryUnregister, request, timeout_s)
            except ServerFailed:
                return
            except EngineFailedError:  # a call that was given up still runs in it
                continue
            self._regions.forget(name)

    def look(self, timeout_s: float) -> None:
        """Ask whether the server has the models and is ready to run them.

        Raises:
            ServerFailed: it has not, is not, or cannot be reached.
        """
        for name in self._names.values():
            request = service_pb2.ModelReadyRequest(name=name, version=self._version)
            if not self._call(self._stub.ModelReady, request, timeout_s).ready:
                raise ServerFailed(f"{name} version {self._version} is not ready")

    def check(self, timeout_s: float) -> str:
        """See that the server has this very file, serves it as it must, and answers; its release.

        Raises:
            ServerFailed: it cannot be reached, or the model is not ready there.
            WrongModelError: it has another version of the model, or serves it in another way.
            EngineFailedError: it fails on a black picture.
        """
        self._call(self._stub.ServerReady, service_pb2.ServerReadyRequest(), timeout_s)
        self._refuse_others(timeout_s)
        self.look(timeout_s)
        for canvas, name in self._names.items():
            request = service_pb2.ModelConfigRequest(name=name, version=self._version)
            self._compare(name, canvas, self._call(self._stub.ModelConfig, request, timeout_s).config)
            self.infer(np.zeros((1, *canvas.shape, self._wanted.inspected.metadata.channels), np.uint8), timeout_s)
        described = self._call(self._stub.ServerMetadata, service_pb2.ServerMetadataRequest(), timeout_s)
        return f"{described.name} {described.version}"

    def _refuse_others(self, timeout_s: float) -> None:
        """Name what the server has where it has not got our version."""
        index = self._call(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), timeout_s)
        for name in self._names.values():
            versions = {
                model.version: f"{model.state} {model.reason}".strip() for model in index.models if model.name == name
            }
            if self._version in versions:
                continue
            if versions:
                raise WrongModelError(
                    f"Triton at {self.address} has {name} in version {', '.join(sorted(versions))}, and the model file"
                    f" here is version {self._version} (SHA-256 {self._wanted.inspected.sha256}); {_MEND}"
                )
            there = ", ".join(sorted({model.name for model in index.models})) or "none at all"
            raise WrongModelError(f"Triton at {self.address} has no model {name}; it has {there}; {_MEND}")

    def _compare(self, name: str, canvas: Size, config: model_config_pb2.ModelConfig) -> None:
        inspected = self._wanted.inspected
        there = config.parameters[HASH_PARAMETER].string_value if HASH_PARAMETER in config.parameters else "none"
        if there != inspected.sha256:
            raise WrongModelError(
                f"{name} of Triton at {self.address} was made from the file with SHA-256 {there}, and the model file"
                f" here has {inspected.sha256}; {_MEND}"
            )
        if config.max_batch_size < self._wanted.max_batch:
            raise WrongModelError(
                f"{name} of Triton at {self.address} takes batches up to {config.max_batch_size}, and up to"
                f" {self._wanted.max_batch} may be sent; lower --max-batch, or write the repository with"
                f" `python -m engines.repository --max-batch {self._wanted.max_batch}`"
            )
        seen = [(port.name, port.data_type, tuple(port.dims)) for port in (*config.input, *config.output)]
        expected = [
            (inspected.input_name, model_config_pb2.TYPE_UINT8, (*canvas.shape, inspected.metadata.channels)),
            (inspected.output_name, model_config_pb2.TYPE_FP32, canvas.shape),
        ]
        if seen != expected:
            raise WrongModelError(f"{name} of Triton at {self.address} has {seen}, expected {expected}; {_MEND}")

    def _call(self, method: Callable[..., Any], request: object, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            call = cast(grpc.Call, error)
            text = f"{call.code().name}: {one_line(Exception(call.details()))}"
            if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerTooSlow(f"no answer within {timeout_s:.3g} s") from error
            if call.code() in _CANNOT_SERVE:
                raise ServerFailed(text) from error
            raise EngineFailedError(f"Triton at {self.address} refused {type(request).__name__}: {text}") from error
        except ValueError as error:  # the channel was closed meanwhile
            raise ServerFailed(one_line(error)) from error


_MEND = (
    "write its repository with `python -m engines.repository` from the files that --models names, and start it again;"
    " or let --models name the files that it was written from"
)
