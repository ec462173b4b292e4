"""Figures and verdict of `benchmarks.relay`; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.recording import samples_needed
from humanseg.vision.arrays import Size

#: What the bars are for.
SIZE = Size(640, 360)
FPS = 30
#: Least frames a second that come back.
LEAST_BACK_FPS = 29.0
#: Most that gRPC and composite may take of a frame, as p99: a frame's own time.
MOST_P99_MS = 33.0
#: Below this the peer did not send what the relay was to be measured with.
LEAST_SENT_FPS = 29.5


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time of user and system that a call took, in seconds."""

    relay_cpu_s: float
    service_cpu_s: float


def judge(peer: Mapping[str, Any], used: Used, load_before: float) -> dict[str, Any]:
    """The figures of one codec's call, and whether the bars are held.

    Args:
        peer: what `relay_programs.read_peer` gives.
        used: by relay and service from before the call to after it.
        load_before: the machine's load average of a minute, before the call.
    """
    relay = peer["relay"]
    invalid = []
    if peer["size"] != str(SIZE):
        invalid.append(f"the clip is {peer['size']}, the bars are for {SIZE}; give another --clip")
    if peer["sent_fps"] < LEAST_SENT_FPS:
        invalid.append(f"the peer sent {peer['sent_fps']:.1f} frames a second of {FPS}; free a CPU core for it")
    if relay["delays"] < samples_needed(99):
        text = f"{relay['delays']} delays are too few samples for p99, {samples_needed(99)} are needed"
        invalid.append(f"{text}; give it more --seconds")
    not_held = []
    if peer["back_fps"] < LEAST_BACK_FPS:
        not_held.append(f"{peer['back_fps']:.1f} frames a second came back, wanted are {LEAST_BACK_FPS:g}")
    if relay["delay_p99_ms"] > MOST_P99_MS:
        not_held.append(f"p99 of the delay is {relay['delay_p99_ms']:.1f} ms, allowed are {MOST_P99_MS:g}")
    if relay["background_only"]:
        not_held.append(f"{relay['background_only']} pictures were the background alone")
    return {
        "size": peer["size"],
        "sent": peer["sent"],
        "sent_fps": peer["sent_fps"],
        "back": peer["back"],
        "back_fps": peer["back_fps"],
        "relay": dict(relay),
        "cpu_ms_per_picture": {
            "relay": round(used.relay_cpu_s * 1000 / relay["composed"], 2),
            "service": round(used.service_cpu_s * 1000 / relay["composed"], 2),
        },
        "load_average_before": round(load_before, 2),
        "valid": not invalid,
        "held": not invalid and not not_held,
        "complaints": invalid + not_held,
    }


def table(calls: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line per codec, the figures of `judge`."""
    lines = Table(title="WebRTC relay", title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    lines.add_column("codec")
    headings = (
        "fps back", "delay p50 ms", "p99 ms", "max ms", "dropped", "CPU ms, relay", "CPU ms, service", "load before",
    )  # fmt: skip
    for heading in headings:
        lines.add_column(heading, justify="right")
    for codec, figures in calls.items():
        relay, cpu = figures["relay"], figures["cpu_ms_per_picture"]
        lines.add_row(
            codec,
            f"{figures['back_fps']:.2f}",
            *(f"{relay[name]:.1f}" for name in ("delay_p50_ms", "delay_p99_ms", "delay_max_ms")),
            str(relay["dropped"]),
            f"{cpu['relay']:.1f}",
            f"{cpu['service']:.1f}",
            f"{figures['load_average_before']:.2f}",
        )
    return lines


def verdict(codec: str, figures: Mapping[str, Any]) -> str:
    """One line: held, not held, or INVALID, and why."""
    if figures["held"]:
        return f"{codec}: held"
    word = "NOT held" if figures["valid"] else "INVALID"
    return f"{codec}: {word}: {'; '.join(figures['complaints'])}"
