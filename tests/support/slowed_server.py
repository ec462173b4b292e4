"""`python -m service` that sleeps in one place: a test hook outside the product, to see who is blamed for it.

usage: python slowed_server.py FILE [flags of the service]; FILE holds the name of the place and the ms, or nothing,
and is read anew for every frame.
"""

import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[0] = str(ROOT)

from engines import onnxruntime_cpu  # noqa: E402
from service import __main__, pipeline, stages  # noqa: E402

#: Place -> the function that does its work. `unexplained` and `transport` come before and after the last reading of
#: the frame's clock, outside every stage.
PLACES: dict[str, tuple[Any, str]] = {
    "preprocess": (pipeline, "letterbox_frame"),
    "inference": (onnxruntime_cpu.OnnxRuntimeCpuRunner, "run"),
    "fusion": (pipeline, "fuse"),
    "postprocess": (pipeline, "restore8"),
    "encode": (pipeline, "encode_mask"),
}


def slow_down(file: Path) -> None:
    def pause(place: str) -> None:
        name, _, delay_ms = file.read_text().partition(" ")
        if name == place:
            time.sleep(float(delay_ms) / 1000)

    def slowed(place: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def run(*args: Any, **kwargs: Any) -> Any:
            pause(place)
            return work(*args, **kwargs)

        return run

    for place, (owner, name) in PLACES.items():
        setattr(owner, name, slowed(place, getattr(owner, name)))
    read_clock = stages.StageClock.answered

    def answered(clock: stages.StageClock) -> None:
        pause("unexplained")
        read_clock(clock)
        pause("transport")

    stages.StageClock.answered = answered  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(Path(sys.argv.pop(1)))
    sys.exit(__main__.main())
