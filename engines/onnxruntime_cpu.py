"""ONNX Runtime on the CPU: the embedded default, so that everything runs on a laptop.

Each run uses one thread, and several threads may run at once: many sessions share the cores, and for them throughput
and p99 are better with one thread a frame than with all threads on one frame (docs/design.md has the figures).
"""

from pathlib import Path
from typing import cast

import onnxruntime as ort

from engines.files import loading, one_line, read_model_file
from engines.onnxruntime_model import check_ports, read_metadata
from engines.runner import EngineFailedError, ModelFileError, RunnerInfo, check_alpha, check_batch
from humanseg.vision.arrays import AlphaBatch, Batch

NAME = "onnxruntime-cpu"
PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeCpuRunner:
    """An ONNX model open in ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, *, max_batch: int, concurrency: int) -> None:
        """Load a model.

        Args:
            path: the ONNX file.
            max_batch: largest batch that `run` takes.
            concurrency: how many threads are going to call `run` at once; told to the dispatcher, not enforced.

        Raises:
            ModelFileError: the file is missing, not a model, or does not describe itself.
        """
        with loading(path, f"ONNX Runtime {ort.__version__}"):
            session = _open_session(path)
            metadata = read_metadata(path, session)
            self._input_name, self._output_name = check_ports(path, session, metadata)
        self._session: ort.InferenceSession | None = session
        self._info = RunnerInfo(
            engine=NAME,
            model=metadata,
            path=path,
            max_batch=max_batch,
            preferred_batch=1,
            concurrency=concurrency,
        )

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        check_batch(self._info, batch)
        session = self._session
        if session is None:
            raise EngineFailedError(f"runner of {self._info.path.name} is closed")
        try:
            outputs = session.run([self._output_name], {self._input_name: batch})
        except Exception as error:  # ONNX Runtime raises classes of its C++ side that share no other base
            raise EngineFailedError(
                f"{NAME} failed with {self._info.path} on a batch of {batch.shape}: {one_line(error)}"
            ) from error
        alpha = cast(AlphaBatch, outputs[0])
        check_alpha(self._info, batch, alpha)
        return alpha

    def close(self) -> None:
        """Let the session go; runs under way finish, later ones raise `EngineFailedError`."""
        self._session = None


def _open_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Not session.set_denormal_as_zero: it changes the arithmetic of the thread that opens the model, for whatever else
    # runs there and in threads started from it, and not that of the threads that call `run`.
    options.log_severity_level = 3
    session = ort.InferenceSession(read_model_file(path), options, providers=[PROVIDER])
    if (providers := session.get_providers()) != [PROVIDER]:
        raise ModelFileError(f"{path} was opened on {providers}, asked for {[PROVIDER]}")
    return session
