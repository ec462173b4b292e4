"""A GPU behind the contract of every engine, and several GPUs behind it as one."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack

from engines.gpu_pipeline import DeviceLostError, GpuPipeline
from engines.runner import EngineFailedError, Runner, RunnerInfo, check_alpha, check_batch
from humanseg.vision.arrays import AlphaBatch, Batch


class GpuRunner:
    """One model on one GPU, warm."""

    def __init__(self, info: RunnerInfo, pipeline: GpuPipeline) -> None:
        self._info, self._pipeline = info, pipeline

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    @property
    def pipeline(self) -> GpuPipeline:
        """The device behind it, for `engines.gpu_check`."""
        return self._pipeline

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        check_batch(self._info, batch)
        alpha = self._pipeline.run(batch)
        check_alpha(self._info, batch, alpha)
        return alpha

    def close(self) -> None:
        """Let runs under way finish, then free the device; later ones raise `EngineFailedError`."""
        self._pipeline.close()


class RunnerPool:
    """The same model on several GPUs: each batch goes to the one with the fewest under way.

    Sessions need no pinning to a GPU: a runner remembers nothing of them. A GPU that is lost is passed over as long as
    another works; the batch it was lost on is answered with the error, and the log has it. That the engine is lost is
    said only once all of them are.
    """

    def __init__(self, info: RunnerInfo, runners: Sequence[Runner]) -> None:
        self._info, self._runners = info, tuple(runners)
        self._state = threading.Lock()
        self._under_way = [0] * len(runners)
        self._lost = [False] * len(runners)

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        return self._info

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch; see `engines.runner.Runner.run`."""
        with self._state:
            # Among equals the first; lost ones only where there is no other, so that their error is seen.
            chosen = min(range(len(self._runners)), key=lambda index: (self._lost[index], self._under_way[index]))
            self._under_way[chosen] += 1
        try:
            alpha = self._runners[chosen].run(batch)
        except DeviceLostError as error:
            with self._state:
                self._lost[chosen] = True
                others_work = not all(self._lost)
            if others_work:
                raise EngineFailedError(str(error)) from error
            raise
        finally:
            with self._state:
                self._under_way[chosen] -= 1
        return alpha

    def close(self) -> None:
        """Close all, whatever one of them raises."""
        with ExitStack() as all_of_them:
            for runner in self._runners:
                all_of_them.callback(runner.close)
