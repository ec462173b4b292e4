"""OpenVINO on the CPU at a precision that is named: what bfloat16 saves and costs is for the operator to weigh.

Each canvas is compiled with its own fixed shape: free dimensions cost 13 % (medium, 320x192, one thread: 14.4 ms fixed,
16.3 free). A batch goes through row by row, so that a frame's mask does not depend on who came with it.
"""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino as ov

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


def open_f32(path: Path, *, max_batch: int, concurrency: int) -> "OpenVinoRunner":
    """Open a model in float32; see `OpenVinoRunner`."""
    return OpenVinoRunner("openvino-f32", _F32, path, max_batch=max_batch, concurrency=concurrency)


def open_bf16(path: Path, *, max_batch: int, concurrency: int) -> "OpenVinoRunner":
    """Open a model in bfloat16, where the CPU has it; see `OpenVinoRunner`.

    Raises:
        EngineUnavailableError: the CPU computes no bfloat16 of its own.
    """
    return OpenVinoRunner("openvino-bf16", _BF16, path, max_batch=max_batch, concurrency=concurrency)


class OpenVinoRunner:
    """An ONNX model open in OpenVINO's CPU plugin."""

    def __init__(self, name: str, precision: str, path: Path, *, max_batch: int, concurrency: int) -> None:
        """Load a model.

        Args:
            name: of the engine, as in the registry.
            precision: ``f32`` or ``bf16``; pinned, since OpenVINO by itself takes what it finds fastest.
            path: the ONNX file.
            max_batch: largest batch that `run` takes.
            concurrency: how many threads are going to call `run` at once; so many run, one core each.

        Raises:
            EngineUnavailableError: the CPU lacks the precision.
            ModelFileError: the file is missing, not a model, or does not describe itself.
        """
        core = ov.Core()
        if precision == _BF16 and "BF16" not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise EngineUnavailableError(
                f"engine {name} needs a CPU that computes bfloat16 (AVX512_BF16, AMX), and this one does not;"
                " take openvino-f32"
            )
        model = _read_model(core, path)
        metadata = _read_metadata(path, model)
        check_graph(path, metadata, _ports(model.inputs), _ports(model.outputs))
        self._info = RunnerInfo(
            engine=name,
            model=metadata,
            path=path,
            max_batch=max_batch,
            preferred_batch=1,
            concurrency=concurrency,
            own_threads=True,
        )
        self._requests: dict[Size, SimpleQueue[ov.InferRequest]] = {}
        for canvas in metadata.canvases:
            compiled = self._compile(core, path, canvas, precision)
            requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
            for _ in range(concurrency):
                requests.put(compiled.create_infer_request())
            self._requests[canvas] = requests
        self._closed = False

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
            raise EngineFailedError(f"{self._info.engine} failed on a batch of {batch.shape}: {error}") from error
        finally:
            requests.put(request)
        check_alpha(self._info, batch, alpha)
        return alpha

    def close(self) -> None:
        """Refuse later runs, which raise `EngineFailedError`; runs under way finish."""
        self._closed = True

    def _compile(self, core: ov.Core, path: Path, canvas: Size, precision: str) -> ov.CompiledModel:
        model = core.read_model(path)
        model.reshape({0: [1, *canvas.shape, self._info.model.channels]})
        # A stream a caller, one thread each, and no pinning: many sessions and other processes share the cores.
        settings = {
            "NUM_STREAMS": self._info.concurrency,
            "INFERENCE_NUM_THREADS": self._info.concurrency,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(model, DEVICE, settings)
        in_use = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if in_use != precision:
            raise EngineUnavailableError(f"OpenVINO computes {path} in {in_use}, asked for {precision}")
        return compiled


def _read_model(core: ov.Core, path: Path) -> ov.Model:
    if not path.is_file():
        raise ModelFileError(f"no model file {path}; see engines/models/README.md for what ships and how to train one")
    try:
        return core.read_model(path)
    except Exception as error:
        version = ov.get_version().split("-")[0]
        raise ModelFileError(f"{path} is not a model that OpenVINO {version} can load: {error}") from error


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
