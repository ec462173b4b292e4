"""ONNX Runtime on an NVIDIA GPU: no engine to build, at the price of slower kernels.

ONNX Runtime falls back to the CPU in silence twice over: as a whole where its CUDA provider cannot be loaded, and node
by node. Both are refused here: `session.disable_cpu_ep_fallback` is set, and the providers in use are compared with
those asked for. Each canvas has a session with its sides fixed, so that no node is left that only counts sides, which
would run on the CPU. Batches are padded to buckets: for every new shape cuDNN searches its algorithms anew.

Buffers are bound on the device and kept; a pair of them serves one call at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime as ort

from engines.files import loading, one_line, read_model_file
from engines.gpu_requirements import require_gpu
from engines.onnxruntime_model import check_ports, describe
from engines.plan import buckets_for
from engines.runner import (
    EngineFailedError,
    EngineUnavailableError,
    ModelFileError,
    RunnerInfo,
    check_alpha,
    check_batch,
)
from humanseg.vision.arrays import AlphaBatch, Batch, Size

NAME = "onnxruntime-cuda"
PROVIDER = "CUDAExecutionProvider"
DEVICE = "cuda"
DEVICE_INDEX = 0
#: Calls that may have a batch on the device at once, for every canvas and bucket.
BINDINGS_A_SHAPE = 2


class OnnxRuntimeCudaRunner:
    """An ONNX model open in ONNX Runtime's CUDA provider, on the first GPU that this process sees."""

    def __init__(self, path: Path, *, max_batch: int, concurrency: int) -> None:
        """Load a model and run every bucket of every canvas once.

        Args:
            path: the ONNX file.
            max_batch: largest batch that `run` takes.
            concurrency: how many threads are going to call `run` at once.

        Raises:
            EngineUnavailableError: this ONNX Runtime has no CUDA provider, it cannot be loaded, or there is no GPU.
            ModelFileError: the file is missing, not a model, or does not describe itself.
        """
        _require_provider()
        outcome = require_gpu(NAME, {})
        metadata = describe(path)
        ort.preload_dlls()  # CUDA and cuDNN, where they were installed from wheels
        try:
            self._buckets = buckets_for(max_batch)
        except ValueError as error:
            raise ModelFileError(f"engine {NAME}: {error}; set --max-batch") from None
        device = outcome.usable[0]
        self._info = RunnerInfo(
            engine=NAME,
            model=metadata,
            path=path,
            max_batch=max_batch,
            preferred_batch=max_batch,
            concurrency=concurrency,
            device=device.described,
        )
        self._bindings: dict[tuple[int, Size], SimpleQueue[_Binding]] = {}
        for canvas in metadata.canvases:
            session = _open_session(path, canvas)
            ports = check_ports(path, session, metadata)
            for bucket in self._buckets:
                free: SimpleQueue[_Binding] = SimpleQueue()
                for _ in range(BINDINGS_A_SHAPE):
                    binding = _Binding(session, ports, (bucket, *canvas.shape, metadata.channels))
                    binding.run(np.zeros((bucket, *canvas.shape, metadata.channels), np.uint8))
                    free.put(binding)
                self._bindings[bucket, canvas] = free

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        check_batch(self._info, batch)
        bucket = next(size for size in self._buckets if size >= len(batch))
        free = self._bindings.get((bucket, Size(batch.shape[2], batch.shape[1])))
        if free is None:
            raise EngineFailedError(f"runner of {self._info.path.name} is closed")
        binding = free.get()
        try:
            alpha = binding.run(batch)
        except Exception as error:  # ONNX Runtime raises classes of its C++ side that share no other base
            raise EngineFailedError(f"{NAME} failed on a batch of {batch.shape}: {error}") from error
        finally:
            free.put(binding)
        check_alpha(self._info, batch, alpha)
        return alpha

    def close(self) -> None:
        """Let the sessions go; runs under way finish, later ones raise `EngineFailedError`."""
        self._bindings = {}


class _Binding:
    """Input and output of one shape, in the device's memory."""

    def __init__(self, session: ort.InferenceSession, ports: tuple[str, str], shape: Sequence[int]) -> None:
        self._session = session
        self._host = np.zeros(shape, np.uint8)
        self._input = ort.OrtValue.ortvalue_from_numpy(self._host, DEVICE, DEVICE_INDEX)
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(list(shape[:3]), np.float32, DEVICE, DEVICE_INDEX)
        self._io = session.io_binding()
        self._io.bind_ortvalue_input(ports[0], self._input)
        self._io.bind_ortvalue_output(ports[1], self._output)

    def run(self, batch: Batch) -> AlphaBatch:
        """(N, H, W, C) uint8 with N up to the shape's -> (N, H, W) float32, the caller's own."""
        self._host[: len(batch)] = batch  # rows beyond it are somebody's earlier frames, and are not read back
        self._input.update_inplace(self._host)
        self._io.synchronize_inputs()
        self._session.run_with_iobinding(self._io)
        self._io.synchronize_outputs()
        alpha: AlphaBatch = self._output.numpy()[: len(batch)]
        return alpha


def _require_provider() -> None:
    if PROVIDER not in ort.get_available_providers():
        raise EngineUnavailableError(
            f"engine {NAME} cannot run here: this ONNX Runtime {ort.__version__} has {ort.get_available_providers()},"
            f" not {PROVIDER}; onnxruntime-gpu has it, in place of onnxruntime: `pip uninstall onnxruntime`, then"
            " `pip install 'humanseg[cuda]'`"
        )


def _open_session(path: Path, canvas: Size) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    height, width = canvas.shape
    for name, side in _free_sides(path, height, width):
        options.add_free_dimension_override_by_name(name, side)
    content = read_model_file(path)
    with loading(path, f"ONNX Runtime {ort.__version__}"):
        try:
            session = ort.InferenceSession(content, options, providers=[(PROVIDER, {"device_id": str(DEVICE_INDEX)})])
        except Exception as error:
            if PROVIDER in str(error) or "fallback" in str(error).lower() or "CUDA" in str(error):
                raise EngineUnavailableError(
                    f"engine {NAME} cannot run {path} on the GPU alone: {one_line(error)};"
                    " the CUDA and cuDNN libraries come with `pip install 'humanseg[cuda]'`"
                ) from error
            raise
    if (providers := session.get_providers())[:1] != [PROVIDER]:
        raise EngineUnavailableError(
            f"{path} was opened on {providers}, asked for {PROVIDER}; see the log for the reason"
        )
    return session


def _free_sides(path: Path, height: int, width: int) -> list[tuple[str, int]]:
    """The names that the model gives to its free height and width."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    _, *sides, _ = session.get_inputs()[0].shape
    return [(name, side) for name, side in zip(sides, (height, width), strict=True) if isinstance(name, str)]
