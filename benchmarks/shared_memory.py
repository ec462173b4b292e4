"""``python -m benchmarks.shared_memory``: the server's CPU time a frame through shared memory and through messages.

One server, one stream of each kind, one frame in flight, blocks in turns, so that both meet the same machine. Smallest
and median of the blocks: whatever else runs only ever adds. With a model that costs next to nothing (``--models``) the
engine's caches do not blur the rest.
"""

import argparse
import asyncio
import json
import statistics
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.conductor import read
from benchmarks.figures import server_costs
from benchmarks.footage import load
from benchmarks.scrape import ScrapeError
from benchmarks.target import LocalServer, TargetError
from humanseg.answers import MaskAnswer
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError, ServerFaultError
from humanseg.frames import PixelFormat
from humanseg.options import FramePolicy, TemporalFusion
from humanseg.session_config import SessionConfig
from humanseg.shared_memory import SharedMemory
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Size

MEASURED, FAILED = 0, 1
MESSAGES, SHARED = "messages", "shared memory"
BEYOND = "cpu_ms_per_mask_beyond_engine_and_fusion"


async def measure(server: LocalServer, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The server's costs of each block, by how the frames travelled.

    Raises:
        SegmentationError: a stream failed, or a frame had no mask.
        ScrapeError: the server's metrics cannot be read.
    """
    config = SessionConfig(
        options.size,
        pixel_format=options.format,
        temporal_fusion=TemporalFusion.HIGH if options.fusion else TemporalFusion.OFF,
        frame_policy=FramePolicy.EVERY,
        label="shared-memory",
    )
    pictures = cycle(load(None, options.size, options.format))
    costs: dict[str, list[dict[str, Any]]] = {MESSAGES: [], SHARED: []}
    async with (
        SegmentationClient(server.address) as client,
        client.stream(config) as plain,
        client.stream(config, shared_memory=SharedMemory()) as shared,
    ):
        streams = {MESSAGES: plain, SHARED: shared}
        for stream in streams.values():
            await drive(stream, [next(pictures) for _ in range(options.frames // 4 + 1)])
        for number in range(options.rounds):
            order = list(streams)[:: 1 if number % 2 else -1]
            for kind in order:
                batch = [next(pictures) for _ in range(options.frames)]
                before = await read(server)
                await drive(streams[kind], batch)
                costs[kind].append(server_costs(before, await read(server)))
    return costs


async def drive(stream: SegmentationStream, pictures: list[bytes]) -> None:
    """Send each picture, and wait for its mask before the next.

    Raises:
        SegmentationError: the stream failed, or a frame had no mask.
    """
    for picture in pictures:
        await stream.send(picture)
        answer = await anext(stream)
        if not isinstance(answer, MaskAnswer):
            raise ServerFaultError(f"a frame had no mask: {answer}")


def summarize(costs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Smallest and median of the blocks, in ms of CPU time a frame; stages of the block with the smallest."""
    figures: dict[str, Any] = {}
    for kind, blocks in costs.items():
        best = min(blocks, key=lambda block: float(block[BEYOND]))
        figures[kind] = {
            "beyond_engine_and_fusion_ms": {
                "min": best[BEYOND],
                "median": round(statistics.median(block[BEYOND] for block in blocks), 3),
                "blocks": [block[BEYOND] for block in blocks],
            },
            "by_stage_ms": best["cpu_ms_per_mask_by_stage"],
        }
    return figures


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_memory", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--size", type=_size, default=Size(640, 360), metavar="WxH", help="of frames (default 640x360)")
    parser.add_argument(
        "--format", type=lambda text: PixelFormat(text.lower()), default=PixelFormat.I420, metavar="NAME",
        help="i420 or rgb24 (default i420)",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=200, metavar="N", help="in a block (default 200)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="blocks of each kind (default 5)")
    parser.add_argument(
        "--fusion", action=argparse.BooleanOptionalAction, default=True, help="fuse over time (default)"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument(
        "--out", type=Path, default=Path("out/shared-memory"), metavar="DIR", help="default out/shared-memory"
    )
    return parser.parse_args(arguments)


def _size(text: str) -> Size:
    width, _, height = text.partition("x")
    return Size(int(width), int(height))


def main() -> int:
    """The command; exit status 0 measured, 1 could not be measured."""
    options = parse_arguments(sys.argv[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    flags = ["--shared-memory", "--frame-deadline-s", "0"]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    figures: dict[str, Any] | None = None
    try:
        with LocalServer(options.out / "server.log", flags) as server:
            figures = summarize(asyncio.run(measure(server, options)))
    except (SegmentationError, TargetError, ScrapeError, OSError) as error:
        print(f"benchmarks/shared_memory.py: {error}", file=sys.stderr)
    if figures is None:
        return FAILED
    (options.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return MEASURED


if __name__ == "__main__":
    sys.exit(main())
