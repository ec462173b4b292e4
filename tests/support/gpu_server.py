"""`python -m service` on two GPUs that are not there: a recorder in the place of CUDA, and a file says which are lost.

usage: python gpu_server.py FILE [flags of the service]; FILE holds the numbers of the GPUs that fail from now on.
Everything above CUDA is the product's own: pipeline, runner, pool. What they compute is nothing: every mask is empty.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from engines.cuda import CudaError  # noqa: E402
from engines.gpu_pipeline import GpuPipeline  # noqa: E402
from engines.gpu_runner import GpuRunner, RunnerPool  # noqa: E402
from engines.gpu_slot import Launch, ProgramFactory, SlotShape  # noqa: E402
from engines.registry import DEFAULT_ENGINE, open_runner  # noqa: E402
from service import __main__, models  # noqa: E402
from support.cuda_calls import RecordingCuda, RecordingProgram  # noqa: E402


class DrawnGpu(RecordingCuda):
    """A GPU of that number, whose kernels fail once the file names it."""

    def __init__(self, device: int, lost: Path) -> None:
        super().__init__()
        self.device = device
        self._lost = lost

    def synchronize_event(self, event: int) -> None:
        super().synchronize_event(event)
        if str(self.device) in self._lost.read_text().split():
            raise CudaError("cudaEventSynchronize", "cudaErrorIllegalAddress (700)")


def open_on_gpus(lost: Path, engine: str, path: Path, **limits: Any) -> RunnerPool:
    info = open_runner(DEFAULT_ENGINE, path, max_batch=1, concurrency=1).info
    shapes = [SlotShape(1, canvas, info.model.channels) for canvas in info.model.canvases]

    def opened(device: int) -> GpuRunner:
        cuda = DrawnGpu(device, lost)
        factory: ProgramFactory = lambda shape, source, target: RecordingProgram(cuda)  # noqa: E731
        pipeline = GpuPipeline(lambda: cuda, shapes, lambda *_: factory, launch=Launch.PLAIN)
        return GpuRunner(replace(info, engine=engine, device=f"GPU {device} drawn"), pipeline)

    runners = [opened(device) for device in (0, 1)]
    devices = "; ".join(runner.info.device for runner in runners)
    return RunnerPool(replace(runners[0].info, device=devices), runners)


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    models.open_runner = lambda engine, path, **limits: open_on_gpus(file, engine, path, **limits)  # type: ignore[assignment, attr-defined]
    sys.exit(__main__.main())
