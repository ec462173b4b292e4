"""Clips that play while one of two replicas goes, and what must hold of their masks afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from humanseg import SegmentationClient, Size
from humanseg.vision.arrays import Alpha8, Picture
from support.clips import trembling_pictures
from support.server import RunningServer

SIZE = Size(320, 180)
STREAMS, FRAMES, HALT = 4, 60, 20


async def play_clips(client: SegmentationClient, at_halt: Callable[[], None]) -> dict[str, list[Alpha8]]:
    """The masks of several clips at once, by label; in the middle of all of them, ``at_halt`` is called."""
    arrived, go = asyncio.Semaphore(0), asyncio.Event()

    async def halt() -> None:
        arrived.release()
        await go.wait()

    async with asyncio.TaskGroup() as group:
        labels = [f"clip{number}" for number in range(STREAMS)]
        playing = {label: group.create_task(play_clip(client, label, halt)) for label in labels}
        for _ in labels:
            await arrived.acquire()
        at_halt()
        go.set()
    return {label: task.result() for label, task in playing.items()}


async def play_clip(
    client: SegmentationClient, label: str, halt: Callable[[], Awaitable[None]] | None = None
) -> list[Alpha8]:
    """The masks of one clip, each of which came with the frame that was sent."""
    pictures = trembling_pictures(FRAMES, SIZE)

    async def frames() -> AsyncIterator[Picture]:
        for index, picture in enumerate(pictures):
            if index == HALT and halt is not None:
                await halt()
            yield picture

    pairs = [(frame, alpha8.copy()) async for frame, alpha8 in client.masks(frames(), label=label)]
    assert all(frame is picture for (frame, _), picture in zip(pairs, pictures, strict=True))
    return [alpha8 for _, alpha8 in pairs]


@dataclass(frozen=True)
class RollingUpdate:
    """What came of one."""

    leaving: RunningServer
    staying: RunningServer
    clips: dict[str, list[Alpha8]]
    stayed: list[Alpha8]
    """The same clip, played afterwards in one piece."""

    def check(self) -> None:
        """No frame was lost or sent twice, the clips of the replica that went moved on, and no mask shows it."""
        assert "event=stopped sessions_cut=0" in self.leaving.log()
        left = closed_sessions(self.leaving)
        ended = left + closed_sessions(self.staying)
        assert {(session["outcome"], session["drops"]) for session in ended} == {("ok", "0")}
        # Each frame was accepted once: none was lost, and none had to be sent again.
        assert sum(int(session["masks"]) for session in ended) == (STREAMS + 1) * FRAMES
        usual = max(differences(self.stayed[1:], self.stayed[:-1]))
        for session in left:
            masks, move = self.clips[session["label"]], int(session["frames"])
            assert HALT <= move < FRAMES, "in mid-clip"
            (seam,) = differences([masks[move]], [masks[move - 1]])
            assert seam <= usual
        for masks in self.clips.values():
            assert max(differences(masks, self.stayed)) < 0.5


async def drain_under_load(client: SegmentationClient, one: RunningServer, other: RunningServer) -> RollingUpdate:
    """Stop the replica with more streams while clips play."""

    def stop_the_busier() -> None:
        nonlocal leaving, staying, moving
        leaving, staying = by_streams(one, other)
        moving = leaving.metric("humanseg_sessions_active")
        leaving.terminate()

    leaving, staying, moving = one, other, 0.0
    clips = await play_clips(client, stop_the_busier)
    assert await asyncio.to_thread(leaving.wait) == 0
    assert staying.metric("humanseg_resumes_total", outcome="resumed") == moving > 0
    return RollingUpdate(leaving, staying, clips, await play_clip(client, "stayed"))


def by_streams(one: RunningServer, other: RunningServer) -> tuple[RunningServer, RunningServer]:
    """The busier replica first."""
    busier, quieter = sorted((one, other), key=lambda server: -server.metric("humanseg_sessions_active"))
    return busier, quieter


def closed_sessions(server: RunningServer) -> list[dict[str, str]]:
    """The fields of each stream's last line of log."""
    lines = [line for line in server.log_lines if " event=session_closed " in line]
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]


def differences(masks: list[Alpha8], others: list[Alpha8]) -> list[float]:
    """Mean difference of each pair, in gray levels."""
    return [float(np.abs(one.astype(int) - other).mean()) for one, other in zip(masks, others, strict=True)]
