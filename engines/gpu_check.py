"""``python -m engines.gpu_check``: everything that can only be seen on a GPU, by one command.

It prints a line a part and a short table on standard error, and one JSON object with all figures on standard output.
Each part runs in a process of its own, so that a crash of a driver or of TensorRT costs that part only; a part that
cannot run says why.

Exit status: 0 every part ran and was in order, 1 one was not, 2 wrong usage, 3 one or all could not run.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired

from engines.plan import BUCKETS
from engines.plan_cache import DEFAULT_FOLDER
from engines.probe import probe

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = REPOSITORY / "engines" / "models"
#: Building an engine takes minutes, never this long.
PART_TIMEOUT_S = 3600.0
PART_NAMES = ("cuda", "pycuda", "build-fp32", "build-fp16", "tensorrt", "tensorrt-fp32", "onnxruntime-cuda")


class Verdict(StrEnum):
    """How a part ended."""

    IN_ORDER = "in order"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(slots=True)
class PartReport:
    """What a part found."""

    part: str
    verdict: Verdict
    why: str | None = None
    figures: dict[str, object] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    """Check; returns the exit status."""
    options = _parser().parse_args(arguments)
    outcome = probe()
    if not outcome.usable:
        print(f"nothing could be checked: {outcome.text}", file=sys.stderr)
        return 3
    print(outcome.text, file=sys.stderr)
    reports = []
    for part in options.parts:
        report = _run_part(part, options)
        reports.append(report)
        print(f"{part}: {report.verdict}{f' ({report.why})' if report.why else ''}", file=sys.stderr)
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "driver": outcome.driver_version,
        "cuda": outcome.cuda_version,
        "devices": [asdict(device) for device in outcome.devices],
        "model": options.model,
        "max_batch": options.max_batch,
        "parts": [asdict(report) for report in reports],
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    for line in table(reports):
        print(line, file=sys.stderr)
    return exit_status(reports)


def exit_status(reports: list[PartReport]) -> int:
    """1 where a part failed, else 3 where one could not run, else 0."""
    verdicts = {report.verdict for report in reports}
    if Verdict.FAILED in verdicts:
        return 1
    return 3 if Verdict.NOT_RUN in verdicts else 0


def table(reports: list[PartReport]) -> list[str]:
    """Milliseconds of each batch size: computing and with copies by events, waited by the wall clock; p50 / p99."""
    rows = [("part", "launch", "batch", "compute", "with copies", "wall", "frames/s")]
    for report in reports:
        for launch, buckets in report.figures.items():
            if not isinstance(buckets, dict):
                continue
            for bucket, times in buckets.items():
                if isinstance(times, dict) and "wall_ms" in times:
                    rate = next((str(value) for name, value in times.items() if name.startswith("frames_per_s")), "")
                    shown = [_pair(times.get(name)) for name in ("compute_ms", "total_ms", "wall_ms")]
                    rows.append((report.part, launch, bucket, shown[0], shown[1], shown[2], rate))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines if len(rows) > 1 else []


def _pair(times: object) -> str:
    return f"{times['p50']:.3f} / {times['p99']:.3f}" if isinstance(times, dict) else "-"


def _run_part(part: str, options: argparse.Namespace) -> PartReport:
    """One part in a child process; whatever becomes of it, there is a report."""
    command = [
        sys.executable, "-m", "engines.gpu_part", part, str(_model_file(options.model)), str(options.max_batch),
        str(options.plans),
    ]  # fmt: skip
    child = Popen(command, cwd=REPOSITORY, stdout=PIPE, stderr=None, text=True, errors="replace")
    try:
        output, _ = child.communicate(timeout=PART_TIMEOUT_S)
    except TimeoutExpired:
        child.kill()
        return PartReport(part, Verdict.FAILED, f"not done after {PART_TIMEOUT_S:g} s")
    last = output.strip().splitlines()[-1:]
    try:
        answer = json.loads(last[0])
        return PartReport(part, Verdict(answer["verdict"]), answer["why"], answer["figures"])
    except (IndexError, ValueError, KeyError, TypeError):
        return PartReport(part, Verdict.FAILED, f"its process ended with status {child.returncode} and no answer")


def _model_file(model: str) -> Path:
    return Path(model) if model.endswith(".onnx") else MODELS / f"{model}.onnx"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engines.gpu_check",
        description="Run on a GPU what can only be seen there; prints JSON on standard output, the rest beside it.",
        epilog="examples:\n"
        "  python -m engines.gpu_check --out gpu.json          everything, medium, up to batch 32\n"
        "  python -m engines.gpu_check --parts cuda            what needs no TensorRT",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", default="medium", help="a shipped model or an ONNX file (default medium)")
    parser.add_argument("--max-batch", type=int, choices=range(1, BUCKETS[-1] + 1), default=BUCKETS[-1], metavar="N")
    parser.add_argument("--plans", type=Path, default=DEFAULT_FOLDER.absolute(), help="folder of the built engines")
    parser.add_argument("--parts", type=_parts, default=list(PART_NAMES), help=f"of {','.join(PART_NAMES)} (all)")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    return parser


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [part for part in chosen if part not in PART_NAMES]:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known are {', '.join(PART_NAMES)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
