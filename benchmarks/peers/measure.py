"""Accuracy on photos and cost on a video of one contestant, in a process of its own.

``python -m benchmarks.peers.measure``, started by `contest`, not by hand: engines keep threads and memory, and CPU
time is counted by process.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.footage import pictures
from benchmarks.peers.contestants import contestants
from benchmarks.peers.peer import Peer, PeerUnavailableError
from benchmarks.recording import Histogram
from humanseg.errors import SegmentationError
from humanseg.video import VideoError
from humanseg.vision.arrays import Picture, Size
from train.data import DataError, Photo, find_photos, split_photos
from train.validation import judge_photos, mean_boundary_f, overall_iou

#: Frames before the clock counts.
WARMUP_FRAMES = 10
#: The cost is the least of so many passes: what else the machine does only adds.
PASSES = 3
FRAME_US = 33_333


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one contestant."""

    mean_iou: float
    """Mean over the sources of photos, as `train.evaluate` has it."""
    boundary_f: float
    photos: int
    cpu_ms_per_frame: float
    """CPU time of all processes that work for it, the user's included."""
    frame_p50_ms: float
    """From the picture to its alpha, one at a time, over all passes."""
    frame_p99_ms: float
    frames: int


def chosen(photos: Sequence[Photo], most: int) -> list[Photo]:
    """At most so many photos, evenly out of all: every source keeps its share."""
    if len(photos) <= most:
        return list(photos)
    return [photos[number * len(photos) // most] for number in range(most)]


def judge(peer: Peer, photos: Sequence[Photo], video: Sequence[Picture], frames: int) -> Figures:
    """Photos for the accuracy, then the video for the cost.

    Raises:
        DataError, PeerUnavailableError, SegmentationError: a photo cannot be read, or the peer failed.
    """
    groups = judge_photos(photos, peer.segment)
    scores = [score for group in groups.values() for score in group]
    wall = Histogram()
    passes_ms = []
    stream = enumerate(cycle(video))
    for _, (number, picture) in zip(range(WARMUP_FRAMES), stream, strict=False):
        peer.follow(picture, number * FRAME_US)
    for _ in range(PASSES):
        spent_s = -time.process_time() - peer.cpu_elsewhere_s()
        for number, picture in islice(stream, frames):
            before_ns = time.monotonic_ns()
            peer.follow(picture, number * FRAME_US)
            wall.record_us((time.monotonic_ns() - before_ns) / 1000)
        spent_s += time.process_time() + peer.cpu_elsewhere_s()
        passes_ms.append(spent_s * 1000 / frames)
    return Figures(
        mean_iou=round(overall_iou(groups), 4),
        boundary_f=round(mean_boundary_f(scores), 4),
        photos=len(scores),
        cpu_ms_per_frame=round(min(passes_ms), 3),
        frame_p50_ms=round(wall.percentile_ms(50), 3),
        frame_p99_ms=round(wall.percentile_ms(99), 3),
        frames=wall.count,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What `contest` passes on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.measure")
    parser.add_argument("--name", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tflite", type=Path, nargs="*", default=[])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--size", type=Size.parse, required=True)
    parser.add_argument("--clip")
    parser.add_argument("--triton")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child process; figures, or why there are none, as a line of JSON on standard output."""
    options = parse_arguments(arguments)
    answer: dict[str, Any]
    try:
        photos = find_photos(options.data)
        judged = photos if options.all else split_photos(photos).validation
        video = list(islice(pictures(options.clip, options.size), options.frames))
        (contestant,) = (
            one
            for one in contestants(options.models, options.model, options.tflite, options.triton)
            if one.name == options.name
        )
        peer = contestant.open()
        try:
            answer = asdict(judge(peer, chosen(judged, options.photos), video, options.frames))
        finally:
            peer.close()
    except (PeerUnavailableError, SegmentationError) as error:
        answer = {"not_run": str(error).splitlines()[0]}
    except (DataError, VideoError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
