"""Write a model repository for Triton Inference Server from our ONNX files: ``python -m engines.repository``.

Every model of the folder becomes one Triton model for each of its input sizes (`engines.triton_names`). What is written
is whole or not there: each model's folder is made beside its place and then renamed.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from engines.onnxruntime_model import InspectedModel, inspect
from engines.runner import EngineError, EngineUnavailableError, ModelFileError
from engines.triton_names import triton_name, triton_version
from engines.triton_serving import Backend, Device, ServingPlan
from humanseg.vision.arrays import Size

MODELS = Path(__file__).resolve().parent / "models"
LARGEST_BATCH = 256
PYTHON_MODEL = Path(__file__).resolve().parent / "triton_python_model.py"
BUILD_SCRIPT = "build-plans.sh"
EXAMPLES = """examples:
  python -m engines.repository --out out/triton                          Python backend, runs on CPUs
  python -m engines.repository --out out/triton --backend onnxruntime --device gpu --instances 2
  python -m engines.repository --out out/triton --backend tensorrt       then REPO/build-plans.sh on the GPU's machine
  python -m engines.repository --out out/triton --max-batch 16 --preferred 8,16 --queue-delay-us 500

The service then takes --engine triton --triton HOST:PORT with the same --models, and no larger --max-batch."""


class RepositoryError(EngineError):
    """The repository cannot be written."""


def write_repository(models: Path, out: Path, plan: ServingPlan) -> list[Path]:
    """Write all models of a folder; those of the same name that are there already are replaced.

    Args:
        models: folder of the ``*.onnx`` files.
        out: the repository; made where it is missing.
        plan: how Triton is to serve them.

    Returns:
        The folders of the Triton models.

    Raises:
        EngineUnavailableError: a package is missing.
        ModelFileError: no model there, one of them cannot be used, or two have the same name.
        RepositoryError: something cannot be written, or a folder in the way is not one of ours.
    """
    inspected = _inspect_all(models)
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [
            _write_model(out, path, model, canvas, plan)
            for path, model in inspected.items()
            for canvas in model.metadata.canvases
        ]
        if plan.backend is Backend.TENSORRT:
            _write_build_script(out, list(inspected.values()), plan)
    except OSError as error:
        raise RepositoryError(
            f"repository {out} cannot be written: {error.filename}: {error.strerror}; choose another --out"
        ) from None
    return written


def _inspect_all(models: Path) -> dict[Path, InspectedModel]:
    inspected: dict[Path, InspectedModel] = {}
    for path in sorted(models.glob("*.onnx")):
        model = inspect(path)
        for other, seen in inspected.items():
            if seen.metadata.name == model.metadata.name:
                raise ModelFileError(f"{path} and {other} both call themselves {model.metadata.name!r}; remove one")
        inspected[path] = model
    if not inspected:
        raise ModelFileError(f"no *.onnx in {models}; set --models to a folder that has some")
    return inspected


def _write_model(out: Path, path: Path, model: InspectedModel, canvas: Size, plan: ServingPlan) -> Path:
    target = out / triton_name(model.metadata, canvas)
    if target.exists() and not (target / "config.pbtxt").is_file():
        raise RepositoryError(
            f"{target} is there and has no config.pbtxt; it is not ours to replace: choose another --out"
        )
    # Beside its place, so that the rename stays within one file system; a leading dot keeps a running Triton off it.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=out))
    try:
        unfinished.chmod(0o755)
        (unfinished / "config.pbtxt").write_text(_config_text(model, canvas, plan))
        version = unfinished / triton_version(model.sha256)
        version.mkdir()
        if plan.backend is Backend.PYTHON:
            shutil.copyfile(PYTHON_MODEL, version / "model.py")
        if plan.backend is Backend.TENSORRT:
            (unfinished / "model.onnx").write_bytes(_in_half(path))
        else:
            (version / "model.onnx").write_bytes(model.content)
        _put_in_place(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _config_text(model: InspectedModel, canvas: Size, plan: ServingPlan) -> str:
    try:
        from engines.triton_config import config_text
    except ImportError as error:
        raise _lacks(error, "humanseg[triton]") from error
    return config_text(model, canvas, plan)


def _lacks(error: ImportError, wanted: str) -> EngineUnavailableError:
    return EngineUnavailableError(f"a package is not installed: {error.name}; install `{wanted}`")


def _put_in_place(finished: Path, target: Path) -> None:
    if target.exists():
        # A folder cannot be renamed onto one that is not empty. What was there ends up in the one that is removed.
        before = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        target.rename(before / "before")
        try:
            finished.rename(target)
        except OSError:
            (before / "before").rename(target)
            raise
        finally:
            shutil.rmtree(before, ignore_errors=True)
    else:
        finished.rename(target)


def _in_half(path: Path) -> bytes:
    """The model in half precision, for TensorRT, which takes precision from the file; one that is already, as it is."""
    try:
        from engines.half import to_half
        from engines.onnx_checks import check_model_file
        from engines.plan import Precision
    except ImportError as error:
        raise _lacks(error, "onnx") from error
    checked = check_model_file(path)
    if checked.precision is Precision.FP16:
        return checked.content
    converted: bytes = to_half(checked.model).model.SerializeToString()
    return converted


def _write_build_script(out: Path, models: Sequence[InspectedModel], plan: ServingPlan) -> None:
    """One trtexec line for each plan; a profile from one picture to the largest batch, since Triton makes any size."""
    lines = [
        "#!/bin/sh",
        "# Builds model.plan of every model here. Run it on the machine and in the container that is going to serve",
        "# them: a plan holds for one GPU and one version of TensorRT.",
        "set -eu",
        'cd "$(dirname "$0")"',
        "TRTEXEC=${TRTEXEC:-trtexec}",
    ]
    for model in models:
        for canvas in model.metadata.canvases:
            name, version = triton_name(model.metadata, canvas), triton_version(model.sha256)
            shapes = {
                batch: f"{model.input_name}:{batch}x{canvas.height}x{canvas.width}x{model.metadata.channels}"
                for batch in (1, plan.max_batch)
            }
            lines.append(
                f'"$TRTEXEC" --stronglyTyped --onnx={name}/model.onnx --minShapes={shapes[1]}'
                f" --optShapes={shapes[plan.max_batch]} --maxShapes={shapes[plan.max_batch]}"
                f" --saveEngine={name}/{version}/model.plan"
            )
    script = out / BUILD_SCRIPT
    unfinished = out / f".{BUILD_SCRIPT}.tmp"
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.chmod(0o755)
    unfinished.replace(script)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = _parser()
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    backend = Backend(options.backend)
    device = Device(options.device or (Device.GPU if backend is Backend.TENSORRT else Device.CPU))
    if backend is Backend.TENSORRT and device is Device.CPU:
        parser.error("--backend tensorrt runs on GPUs only; leave out --device cpu")
    if backend is Backend.PYTHON and device is Device.GPU:
        parser.error("--backend python runs on CPUs only; take --backend onnxruntime or tensorrt for GPUs")
    if too_large := [size for size in options.preferred if size > options.max_batch]:
        parser.error(f"--preferred {too_large[0]} is above --max-batch {options.max_batch}")
    plan = ServingPlan(
        backend=backend,
        device=device,
        max_batch=options.max_batch,
        preferred_batches=tuple(options.preferred),
        queue_delay_us=options.queue_delay_us,
        instances=options.instances,
        threads=options.threads,
    )
    try:
        written = write_repository(options.models, options.out, plan)
    except EngineError as error:
        print(f"engines.repository: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, EngineUnavailableError) else 1
    for target in written:
        print(f"{target}: {backend}, batches up to {plan.max_batch}")
    ours = {target.name for target in written}
    if others := sorted(entry.name for entry in os.scandir(options.out) if entry.is_dir() and entry.name not in ours):
        print(f"left as they are: {', '.join(others)}; Triton serves them too")
    if backend is Backend.TENSORRT:
        print(f"next: {options.out / BUILD_SCRIPT} on the machine that serves them, with trtexec of its TensorRT")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engines.repository",
        description="Write a Triton model repository from the ONNX files of a folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the ONNX files")
    parser.add_argument("--out", type=Path, required=True, metavar="REPO", help="folder of the repository")
    parser.add_argument(
        "--backend", choices=[str(one) for one in Backend], default=str(Backend.PYTHON),
        help="what runs the models inside Triton (default python)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=[str(one) for one in Device], help="default: gpu for tensorrt, else cpu"
    )  # fmt: skip
    parser.add_argument("--max-batch", type=_whole(1, LARGEST_BATCH), default=8, metavar="N", help="default 8")
    parser.add_argument(
        "--preferred", type=_sizes, default=(), metavar="N[,N]",
        help="batch sizes that are sent off at once (default: whatever waits when an instance is free)",
    )  # fmt: skip
    parser.add_argument(
        "--queue-delay-us", type=_whole(0, 1_000_000), default=0, metavar="N",
        help="how long a request may wait for others while an instance is free (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--instances", type=_whole(1, 64), default=1, metavar="N", help="copies of each model, a GPU (default 1)"
    )
    parser.add_argument("--threads", type=_whole(1, 256), default=1, metavar="N", help="CPU threads a copy (default 1)")
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{number} is out of range, allowed are {low} to {high}")
        return number

    return read


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({_whole(1, LARGEST_BATCH)(one) for one in text.split(",")}))


if __name__ == "__main__":
    sys.exit(main())
