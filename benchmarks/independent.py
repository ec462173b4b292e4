"""``python -m benchmarks.independent``: a second, deliberately plain client that measures the same and shares nothing.

Threads, grpc's blocking stubs, a list of latencies, numpy's percentiles, CPU time read from /proc. It imports neither
the project's client nor anything of the benchmark, so that an error in one of them does not show in both;
`benchmarks.agreement` holds them against each other. Prints one line of JSON.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc

#: From the start of the threads to the sessions' time zero, and how long after the last frame a call may go on.
START_DELAY_S = 0.5
GIVE_UP_S = 15.0


class Session(threading.Thread):
    """One stream: grpc's own thread takes the frames from `requests` at their times, this one reads the answers."""

    def __init__(self, options: argparse.Namespace, frames: list[bytes], phase_s: float, start_ns: int) -> None:
        """``phase_s``: the first frame's intended time after ``start_ns``; the others follow every 1/fps."""
        super().__init__(daemon=True)
        self.options = options
        self.frames = frames
        duration_s = options.warmup_s + options.seconds
        self.intended_ns = [
            start_ns + round((phase_s + number / options.fps) * 1e9)
            for number in range(round(duration_s * options.fps))
        ]
        self.measured_from_ns = start_ns + round(options.warmup_s * 1e9)
        self.latency_ms: list[float] = []
        self.send_lag_ms: list[float] = []
        self.answers = 0
        self.failure = ""

    def requests(self) -> Iterator[pb.StreamSegmentRequest]:
        """The config, then every frame when it is due, whatever became of the earlier ones."""
        width, height = self.options.size
        config = pb.SessionConfig(
            model=self.options.model,
            width=width,
            height=height,
            pixel_format=pb.PIXEL_FORMAT_I420,
            temporal_fusion=pb.TemporalFusion.Value(f"TEMPORAL_FUSION_{self.options.temporal.upper()}"),
            frame_policy=pb.FramePolicy.Value(f"FRAME_POLICY_{self.options.policy.upper()}"),
            session_label="independent",
        )
        yield pb.StreamSegmentRequest(config=config)
        free_ns = 0
        for number, intended_ns in enumerate(self.intended_ns):
            picture = self.frames[number % len(self.frames)]
            frame = pb.Frame(frame_id=number + 1, capture_time_us=intended_ns // 1000, picture=picture)
            request = pb.StreamSegmentRequest(frame=frame)
            wait_s = (intended_ns - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                time.sleep(wait_s)
            if intended_ns >= self.measured_from_ns:
                # What an earlier frame held up on its way out is the server's doing and not a lag of this client.
                self.send_lag_ms.append((time.monotonic_ns() - max(intended_ns, free_ns)) / 1e6)
            yield request
            free_ns = time.monotonic_ns()

    def run(self) -> None:
        """Read until the server has answered everything."""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        limit_s = START_DELAY_S + self.options.warmup_s + self.options.seconds + GIVE_UP_S
        try:
            with grpc.insecure_channel(self.options.target, options) as channel:
                for response in pb_grpc.SegmentationServiceStub(channel).StreamSegment(
                    self.requests(), timeout=limit_s
                ):
                    now_ns = time.monotonic_ns()
                    if response.WhichOneof("message") != "result":
                        continue
                    intended_ns = self.intended_ns[response.result.frame_id - 1]
                    if intended_ns < self.measured_from_ns:
                        continue
                    self.answers += 1
                    if response.result.outcome == pb.FRAME_OUTCOME_MASK:
                        self.latency_ms.append((now_ns - intended_ns) / 1e6)
        except grpc.RpcError as error:
            self.failure = f"{error.code().name}: {error.details()}"


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children, in seconds.

    Raises:
        OSError: it is gone.
    """
    # Behind the name, which may hold blanks and brackets: utime and stime are fields 14 and 15 of the line.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return own_s + sum(cpu_s(int(child)) for task in tasks for child in task.read_text().split())


def cut(file: Path, width: int, height: int) -> list[bytes]:
    """The I420 frames that a file holds one behind the other.

    Raises:
        ValueError: it does not hold whole frames.
        OSError: it cannot be read.
    """
    data = file.read_bytes()
    frame_bytes = width * height + 2 * (-(-width // 2) * -(-height // 2))
    if not data or len(data) % frame_bytes:
        raise ValueError(f"{file} holds {len(data)} bytes, which are no whole frames of {frame_bytes} bytes")
    return [data[at : at + frame_bytes] for at in range(0, len(data), frame_bytes)]


def measure(options: argparse.Namespace) -> dict[str, float | int | None]:
    """Drive the server and reckon.

    Raises:
        OSError, ValueError: the frames or the server's process cannot be read.
        RuntimeError: a stream failed.
    """
    frames = cut(options.frames, *options.size)
    start_ns = time.monotonic_ns() + round(START_DELAY_S * 1e9)
    sessions = [
        # Each begins elsewhere in the footage, so that no two show the same picture at the same time.
        Session(options, frames[number * 37 % len(frames) :] + frames[: number * 37 % len(frames)], phase_s, start_ns)
        for number, phase_s in enumerate(options.phases)
    ]
    for session in sessions:
        session.start()
    time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9 + options.warmup_s))
    before_s = cpu_s(options.pid) if options.pid else 0.0
    for session in sessions:
        session.join()
    used_s = cpu_s(options.pid) - before_s if options.pid else None
    for session in sessions:
        if session.failure:
            raise RuntimeError(session.failure)
    latency_ms = np.concatenate([session.latency_ms for session in sessions])
    lag_ms = np.concatenate([session.send_lag_ms for session in sessions])
    sent, answers = len(lag_ms), sum(session.answers for session in sessions)
    if not len(latency_ms):
        raise RuntimeError(f"no mask came for {sent} frames")
    figures: dict[str, float | int | None] = {"sent": sent, "masks": len(latency_ms), "unanswered": sent - answers}
    # The smallest sample that so many lie at or below: nothing is interpolated.
    for rank in (50, 90, 99):
        figures[f"p{rank}_ms"] = float(np.percentile(latency_ms, rank, method="inverted_cdf"))
    figures["send_lag_p99_ms"] = float(np.percentile(lag_ms, 99, method="inverted_cdf"))
    figures["cpu_ms_per_mask"] = None if used_s is None else 1000 * used_s / len(latency_ms)
    return figures


def read_size(text: str) -> tuple[int, int]:
    """``WxH`` as two numbers."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> int:
    """The command; exit status 0 measured, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.independent", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--target", required=True, metavar="ADDRESS", help="of the server: HOST:PORT or unix:PATH")
    parser.add_argument("--pid", type=int, help="of the server's process on this machine, for its CPU time")
    parser.add_argument("--frames", type=Path, required=True, metavar="FILE", help="I420 frames, sent round and round")
    parser.add_argument("--size", type=read_size, default=(640, 360), metavar="WxH", help="of them (default 640x360)")
    parser.add_argument(
        "--phases", type=lambda text: [float(part) for part in text.split(",")], default=[0.0], metavar="S,S,..",
        help="a session each: when its first frame is due after the start, in seconds (default one at 0)",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, default=30.0, help="of each session (default 30)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="measured part (default 20)")
    parser.add_argument("--warmup-s", type=float, default=1.0, metavar="S", help="left out before it (default 1)")
    parser.add_argument("--model", default="", help="default: the server's own default")
    parser.add_argument("--temporal", choices=("off", "low", "high"), default="high", help="default high")
    parser.add_argument("--policy", choices=("newest", "every"), default="newest", help="default newest")
    try:
        print(json.dumps(measure(parser.parse_args())))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"benchmarks/independent.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
