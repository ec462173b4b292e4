"""OpenVINO on the CPU at a precision that is named: what bfloat16 saves and costs is for the operator to weigh.

Each canvas is compiled with its own fixed shape: free dimensions cost 13 % (medium, 320x192, one thread: 14.4 ms fixed,
16.3 free). A batch goes through row by row, so that a frame's mask does not depend on who came with it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino as ov

from engines.blob_cache import BlobCache
from engines.files import loading, one_line, read_model_file
from engines.graph import Port, check_graph
from engines.metadata import MetadataError, ModelMetadata
from engines.runner import (
    EngineFailedError,
    EngineUnavailableError,
    ModelFileError,
    RunnerInfo,
    check_alpha,
    check_batch,
)
from humanseg.vision.arrays import AlphaBatch, Batch, Size

DEVICE = "CPU"
#: Names of OpenVINO's element types in numpy's words.
_DTYPES = {"u8": "uint8", "f32": "float32"}
_F32, _BF16 = "f32", "bf16"


def open_f32(path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None) -> "OpenVinoRunner":
    """Open a model in float32; see `OpenVinoRunner`."""
    return OpenVinoRunner("openvino-f32", _F32, path, max_batch=max_batch, concurrency=concurrency, cache=cache)


def open_bf16(path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None) -> "OpenVinoRunner":
    """Open a model in bfloat16, where the CPU has it; see `OpenVinoRunner`.

    Raises:
        EngineUnavailableError: the CPU computes no bfloat16 of its own.
    """
    return OpenVinoRunner("openvino-bf16", _BF16, path, max_batch=max_batch, concurrency=concurrency, cache=cache)


class OpenVinoRunner:
    """An ONNX model open in OpenVINO's CPU plugin."""

    def __init__(
        self, name: str, precision: str, path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None
    ) -> None:
        """Load a model.

        Args:
            name: of the engine, as in the registry.
            precision: ``f32`` or ``bf16``; pinned, since OpenVINO by itself takes what it finds fastest.
            path: the ONNX file.
            max_batch: largest batch that `run` takes.
            concurrency: how many threads are going to call `run` at once; so many run, one core each.
            cache: folder that keeps compiled models from start to start.

        Raises:
            EngineUnavailableError: the CPU lacks the precision.
            ModelFileError: the file is missing, not a model, or does not describe itself.
            CacheError: the cache cannot be written or read.
        """
        core = ov.Core()
        if precision == _BF16 and "BF16" not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise EngineUnavailableError(
                f"engine {name} needs a CPU that computes bfloat16 (AVX512_BF16, AMX), and this one does not;"
                " take openvino-f32"
            )
        self._closed = False
        self._requests: dict[Size, SimpleQueue[ov.InferRequest]] = {}
        content = read_model_file(path)
        compiler = _Compiler(core, precision, concurrency, None if cache is None else BlobCache(cache))
        with loading(path, f"OpenVINO {ov.get_version().split('-')[0]}"):
            model = core.read_model(content)
            metadata = _read_metadata(path, model)
            check_graph(path, metadata, _ports(model.inputs), _ports(model.outputs))
            for canvas in metadata.canvases:
                compiled = compiler.compile(model, content, [1, *canvas.shape, metadata.channels])
                requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
                for _ in range(concurrency):
                    requests.put(compiled.create_infer_request())
                self._requests[canvas] = requests
        self._info = RunnerInfo(
            engine=name,
            model=metadata,
            path=path,
            max_batch=max_batch,
            preferred_batch=1,
            concurrency=concurrency,
            own_threads=True,
        )

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        check_batch(self._info, batch)
        if self._closed:
            raise EngineFailedError(f"runner of {self._info.path.name} is closed")
        alpha = np.empty(batch.shape[:3], np.float32)
        requests = self._requests[Size(batch.shape[2], batch.shape[1])]
        request = requests.get()  # a request serves one thread at a time; more threads than requests wait here
        try:
            for row in range(len(batch)):
                request.infer([batch[row : row + 1]], share_inputs=True, share_outputs=True)
                alpha[row] = request.get_output_tensor(0).data[0]
        except Exception as error:  # OpenVINO raises RuntimeError and others of its C++ side
            raise EngineFailedError(
                f"{self._info.engine} failed with {self._info.path} on a batch of {batch.shape}: {one_line(error)}"
            ) from error
        finally:
            requests.put(request)
        check_alpha(self._info, batch, alpha)
        return alpha

    def close(self) -> None:
        """Refuse later runs, which raise `EngineFailedError`; runs under way finish."""
        self._closed = True


class _Compiler:
    """Compiles for the CPU at a pinned precision, or takes what was compiled from the very same before."""

    def __init__(self, core: ov.Core, precision: str, concurrency: int, cache: BlobCache | None) -> None:
        self._core = core
        self._precision = precision
        self._cache = cache
        # A stream a caller, one thread each, and no pinning: many sessions and other processes share the cores.
        self._settings = {
            "NUM_STREAMS": concurrency,
            "INFERENCE_NUM_THREADS": concurrency,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,
        }

    def compile(self, model: ov.Model, content: bytes, shape: list[int]) -> ov.CompiledModel:
        """Compile for one input shape; ``content`` is the file that the model was read from.

        Raises:
            EngineUnavailableError: OpenVINO takes another precision than it was told.
            CacheError: the cache cannot be written or read.
        """
        if self._cache is None:
            return self._checked(self._compile(model, shape))
        key = {
            "model": hashlib.sha256(content).hexdigest(),
            "openvino": ov.get_version(),
            "cpu": self._core.get_property(DEVICE, "FULL_DEVICE_NAME"),
            "capabilities": sorted(self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")),
            "settings": self._settings,
            "shape": shape,
        }
        blob = self._cache.load(key)
        if blob is not None:
            return self._checked(self._core.import_model(blob, DEVICE, self._settings))
        compiled = self._checked(self._compile(model, shape))
        self._cache.store(key, compiled.export_model().getvalue())
        return compiled

    def _compile(self, model: ov.Model, shape: list[int]) -> ov.CompiledModel:
        model.reshape({0: shape})
        return self._core.compile_model(model, DEVICE, self._settings)

    def _checked(self, compiled: ov.CompiledModel) -> ov.CompiledModel:
        in_use = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if in_use != self._precision:
            raise EngineUnavailableError(f"OpenVINO computes in {in_use}, asked for {self._precision}")
        return compiled


def _read_metadata(path: Path, model: ov.Model) -> ModelMetadata:
    # OpenVINO puts an ONNX file's metadata under "framework"; a file without any has no such entry.
    info = model.get_rt_info()
    found = info["framework"] if "framework" in info else {}  # noqa: SIM401  # an RTMap has no get
    properties = {key: str(value.value) for key, value in found.items()}
    try:
        return ModelMetadata.from_properties(properties)
    except MetadataError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _ports(ports: Sequence[ov.Output]) -> list[Port]:
    return [
        Port(
            port.get_any_name(),
            _DTYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            [None if side.is_dynamic else side.get_length() for side in port.partial_shape],
        )
        for port in ports
    ]
