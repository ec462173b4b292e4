"""``python -m engines.build``: ONNX models to TensorRT engines, built once and kept beside a sidecar.

Exit status: 0 built, or there already; 1 the model, the cache or TensorRT refused it; 2 something is missing on this
machine, or an argument is wrong; 130 interrupted. One line on standard error says why.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from engines.build_report import BuildReport, judged_on, measure_on_gpu, write_report
from engines.half import to_half
from engines.half_emulation import HalfParity, compare
from engines.metadata import ModelMetadata
from engines.onnx_checks import CheckedModel, check_model_file
from engines.plan import ANY_DRIVER, BUCKETS, BuiltPlan, Flavor, PlanKey, Precision, buckets_for
from engines.plan_cache import DEFAULT_FOLDER, PlanCache
from engines.probe import ProbeOutcome, probe
from engines.runner import EngineError, EngineUnavailableError, ModelFileError
from engines.tensorrt_api import TensorRtApi, open_api
from engines.tensorrt_builder import BuildCancelled, Watch, build_plan

MODELS = Path(__file__).parent / "models"
#: Mean difference of alpha between half precision and float32 above which no engine is built.
HALF_LIMIT = 0.01

EXAMPLES = """examples:
  python -m engines.build --model medium                          half precision, batches of 1, 2, 4 and 8, for this GPU
  python -m engines.build --model large --precision fp16 --max-batch 32
  python -m engines.build --model medium --precision fp32         to compare precision on your GPU
  python -m engines.build --model medium --flavor tensorrt-rtx --compute-capability 8.6,8.9
                                                                  TensorRT-RTX: needs no GPU to build
then:
  python -m service --engine tensorrt --max-batch 8
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What to build for."""

    compute_capability: str
    driver: str
    device: str
    """For the report."""
    is_here: bool
    """Whether the engine can be tried on this machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = _parser()
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    flavor, precision = Flavor(options.flavor), Precision(options.precision)
    if options.compute_capability and flavor is not Flavor.TENSORRT_RTX:
        parser.error("--compute-capability goes with --flavor tensorrt-rtx: TensorRT builds for the GPU it runs on")
    try:
        api, targets = _machine(flavor, options.compute_capability)
        checked = check_model_file(options.models / f"{options.model}.onnx")
        network, parity = _in_precision(checked, precision)
        for target in targets:
            key = PlanKey(
                model=checked.metadata.name,
                onnx_sha256=checked.sha256,
                flavor=flavor,
                version=api.version,
                compute_capability=target.compute_capability,
                driver=target.driver,
                precision=precision,
                buckets=options.max_batch,
                canvases=checked.metadata.canvases,
            )
            build = partial(_build, api, network, key, checked.metadata, options.cache)
            loaded = PlanCache(options.cache).load_or_build(key, build, partial(print, flush=True))
            figures = measure_on_gpu(checked, key, options.cache) if target.is_here else None
            write_report(options.cache, BuildReport(key, target.device, loaded, parity, figures))
    except EngineUnavailableError as error:
        return _fail(str(error), 2)
    except (BuildCancelled, KeyboardInterrupt):
        return _fail("interrupted; nothing was written", 130)
    except EngineError as error:
        return _fail(str(error), 1)
    return 0


def _fail(text: str, status: int) -> int:
    print(f"engines.build: {' '.join(text.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engines.build",
        description="Build TensorRT engines of a model: one static profile for every batch size and input size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="NAME.onnx in --models")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the ONNX files")
    parser.add_argument(
        "--precision", choices=[str(one) for one in Precision], default=str(Precision.FP16), help="default fp16"
    )
    parser.add_argument(
        "--max-batch", type=_buckets, default=buckets_for(8), metavar="N",
        help=f"largest batch, 1 to {BUCKETS[-1]}; that of the service must be the same (default 8)",
    )  # fmt: skip
    parser.add_argument(
        "--flavor", "--flavour", choices=[str(one) for one in Flavor], default=str(Flavor.TENSORRT),
        help="which of NVIDIA's libraries (default tensorrt)",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help=f"default {DEFAULT_FOLDER}")
    parser.add_argument(
        "--compute-capability", type=_capabilities, metavar="X.Y,...",
        help="tensorrt-rtx only: the GPUs to build for, an engine each; without it, the GPU that is here",
    )  # fmt: skip
    return parser


def _buckets(text: str) -> tuple[int, ...]:
    try:
        return buckets_for(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _capabilities(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for part in found:
        major, dot, minor = part.partition(".")
        if not (dot and major.isdecimal() and minor.isdecimal() and len(minor) == 1):
            raise argparse.ArgumentTypeError(f"{part!r} is not MAJOR.MINOR, for example 8.9")
    return found


def _machine(flavor: Flavor, capabilities: tuple[str, ...] | None) -> tuple[TensorRtApi, list[Target]]:
    """The library and what to build for; the probe before the library, which may end the process without a driver.

    Raises:
        EngineUnavailableError: naming all that is missing and how to get it.
    """
    if flavor is Flavor.TENSORRT_RTX and capabilities:
        return open_api(flavor), [
            Target(one, ANY_DRIVER, "none, built ahead of time", is_here=False) for one in capabilities
        ]
    missing = []
    outcome = probe()
    targets = []
    try:
        targets = [_target(flavor, outcome)]
    except EngineUnavailableError as error:
        missing.append(str(error))
    try:
        api = open_api(flavor)
    except EngineUnavailableError as error:
        missing.append(str(error))
    if missing:
        raise EngineUnavailableError(f"{flavor} cannot build here: {'; '.join(missing)}")
    return api, targets


def _target(flavor: Flavor, outcome: ProbeOutcome) -> Target:
    if not outcome.usable:
        rtx = ", or name one by --compute-capability 8.9" if flavor is Flavor.TENSORRT_RTX else ""
        raise EngineUnavailableError(outcome.text + rtx)
    device = outcome.usable[0]
    if device.index:
        raise EngineUnavailableError(
            f"device 0 cannot be used ({outcome.text}); leave it out by CUDA_VISIBLE_DEVICES={device.index}"
        )
    capability = ".".join(map(str, device.compute_capability))
    driver = ANY_DRIVER if flavor is Flavor.TENSORRT_RTX else str(outcome.cuda_version)
    return Target(capability, driver, f"{device.name}, driver {outcome.driver_version}", is_here=True)


def _in_precision(checked: CheckedModel, precision: Precision) -> tuple[bytes, HalfParity | None]:
    """The model as it is to be parsed, and what half precision does to it on a CPU, if that was changed here."""
    if checked.precision is precision:
        return checked.content, None
    if precision is Precision.FP32:
        raise ModelFileError(f"{checked.path} holds half precision, float32 cannot be had from it; --precision fp16")
    half = to_half(checked.model).model
    parity = compare(checked.model, half, judged_on(checked.metadata, 2))
    if not parity.mean <= HALF_LIMIT:  # NaN where it overflowed
        raise ModelFileError(
            f"{checked.path} in half precision changes alpha by {parity.mean:.3g} in the mean, allowed is {HALF_LIMIT};"
            " build it with --precision fp32"
        )
    return half.SerializeToString(), parity


def _build(api: TensorRtApi, network: bytes, key: PlanKey, metadata: ModelMetadata, folder: Path) -> BuiltPlan:
    timing_cache = folder / f"{key.flavor}-{key.version}-sm{key.compute_capability.replace('.', '')}.timing"
    with _interrupt() as stop, tqdm(total=0, desc=key.stem, unit="step", disable=None, leave=False) as bar:

        def begun(steps: int) -> None:
            bar.total = (bar.total or 0) + steps
            bar.refresh()

        def step() -> bool:
            bar.update()
            return not stop.is_set()

        return build_plan(api, network, key, metadata.channels, Watch(begun, step), timing_cache)


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Ctrl-C as an event: an exception must not travel through NVIDIA's code, which calls ours during a build."""
    stop = threading.Event()
    earlier = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, earlier)


if __name__ == "__main__":
    sys.exit(main())
