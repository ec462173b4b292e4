"""What `engines.build` says of an engine: on the terminal, and as JSON beside the plan."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engines.gpu_measure import TOLERANCES, Figures, parity, wall_times
from engines.half_emulation import HalfParity
from engines.metadata import ModelMetadata
from engines.onnx_checks import CheckedModel
from engines.plan import PlanKey, Precision
from engines.plan_cache import LoadedPlan, write_whole
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineUnavailableError, Runner
from humanseg.vision.arrays import Batch

#: Size of the squares in the noise that engines are judged on, as in `train.export`.
GRAIN_PX = 16
#: Behind the flavor in the name of the engine that serves it (`engines.registry`).
SUFFIXES = {Precision.FP16: "", Precision.FP32: "-fp32"}


@dataclass(frozen=True, slots=True)
class BuildReport:
    """One engine, built or found."""

    key: PlanKey
    device: str
    loaded: LoadedPlan
    half: HalfParity | None
    """What half precision does to the model, computed on the CPU; None where nothing was converted."""
    on_gpu: Figures | None
    """None where the engine is for a GPU that is not here."""

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        sidecar = self.loaded.sidecar
        return {
            **self.key.to_json(),
            "device": self.device,
            "plan": self.loaded.path.name,
            "plan_sha256": sidecar.plan_sha256,
            "plan_bytes": sidecar.plan_bytes,
            "built_now": self.loaded.built_now,
            "build_s": sidecar.build_s,
            "profiles": len(self.key.profiles),
            "flags": list(sidecar.flags),
            "half_against_fp32_on_cpu": asdict(self.half) if self.half else None,
            "on_gpu": self.on_gpu,
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        key, sidecar = self.key, self.loaded.sidecar
        how = f"built in {sidecar.build_s:.1f} s" if self.loaded.built_now else "was there"
        lines = [
            f"{self.loaded.path}: {how}, {sidecar.plan_bytes / 1e6:.1f} MB,"
            f" batches {','.join(map(str, key.buckets))} at {' and '.join(map(str, key.canvases))},"
            f" compute capability {key.compute_capability}, {key.flavor} {key.version}"
        ]
        if self.half:
            lines.append(
                f"half precision against float32, on the CPU: alpha differs by {self.half.mean:.2g} in the mean, by"
                f" {self.half.largest:.2g} at most"
            )
        lines += [f"{name}: {value}" for name, value in (self.on_gpu or {}).items()]
        return lines


def write_report(folder: Path, report: BuildReport) -> None:
    """Print a report and write it beside the plan.

    Raises:
        CacheWriteError: the folder cannot be written.
    """
    content = json.dumps(report.to_json(), indent=1) + "\n"
    write_whole(folder / f"{report.key.stem}.report.json", content.encode())
    print("\n".join(report.lines()))


def measure_on_gpu(checked: CheckedModel, key: PlanKey, plans: Path) -> Figures:
    """Serve an engine that was just built and hold it against the CPU, at every batch size.

    Raises:
        EngineError: it cannot be served, or answers something else.
    """
    try:
        engine = f"{key.flavor}{SUFFIXES[key.precision]}"
        runner = open_runner(engine, checked.path, max_batch=key.buckets[-1], concurrency=1, plans=plans)
    except EngineUnavailableError as error:
        return {"not measured": str(error)}
    reference = open_runner(DEFAULT_ENGINE, checked.path, max_batch=1, concurrency=1)
    try:
        return measure(reference, runner, key)
    finally:
        runner.close()
        reference.close()


def measure(reference: Runner, runner: Runner, key: PlanKey) -> Figures:
    """Parity at every bucket and canvas, and what a caller waits for each bucket at the first canvas.

    Raises:
        EngineFailedError: the runner's alphas are too far from the reference's.
    """
    pictures = dict(zip(key.canvases, judged_on(runner.info.model, key.buckets[-1]), strict=True))
    far = parity(reference, runner, pictures, key.buckets, TOLERANCES[key.precision])
    times = {str(bucket): wall_times(runner.run, pictures[key.canvases[0]][:bucket]) for bucket in key.buckets}
    return {"device": runner.info.device, "parity": far, "latency": times}


def judged_on(metadata: ModelMetadata, count: int) -> list[Batch]:
    """Pictures that every model can be tried on: so many of structured noise a canvas."""
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (count, height // GRAIN_PX, width // GRAIN_PX, metadata.channels), np.uint8)
        .repeat(GRAIN_PX, axis=1)
        .repeat(GRAIN_PX, axis=2)
        for width, height in metadata.canvases
    ]
