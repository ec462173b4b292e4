"""ffmpeg as a process at either end of a pipe; the program comes with imageio-ffmpeg.

``IMAGEIO_FFMPEG_EXE`` names another one.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import imageio_ffmpeg

#: Colors as the service reads I420, whatever the file has; every frame at its time, since y4m knows no times.
_TO_Y4M = ["-vf", "scale=out_color_matrix=bt601:out_range=tv,format=yuv420p", "-fps_mode", "cfr"]
#: H.264 that browsers play: BT.709, even sides.
_FROM_Y4M = [
    "-vf", "scale=in_color_matrix=bt601:in_range=tv:out_color_matrix=bt709:out_range=tv,"
    "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv",
    "-c:v", "libx264", "-crf", "18", "-preset", "veryfast", "-movflags", "+faststart",
]  # fmt: skip


class FfmpegError(Exception):
    """ffmpeg could not do its part; one line for people."""


def decoder(path: Path) -> "Ffmpeg":
    """Reads a video file, upright, and writes y4m to `Ffmpeg.output`."""
    return Ffmpeg(f"reading {path}", ["-xerror", "-i", f"file:{path}", "-map", "0:v:0", *_TO_Y4M,
                  "-f", "yuv4mpegpipe", "pipe:1"])  # fmt: skip


def encoder(path: Path, sound_of: Path | None) -> "Ffmpeg":
    """Reads y4m from `Ffmpeg.input` and writes a video file, with the sound of another one."""
    sound = [] if sound_of is None else ["-i", f"file:{sound_of}"]
    chosen = ["-map", "0:v"] if sound_of is None else ["-map", "0:v", "-map", "1:a?", "-c:a", "copy"]
    return Ffmpeg(f"writing {path}", ["-f", "yuv4mpegpipe", "-i", "pipe:0", *sound, *chosen, *_FROM_Y4M,
                  "-y", f"file:{path}"])  # fmt: skip


class Ffmpeg:
    """A running ffmpeg; used inside ``with``, which waits for its end, or ends it where an exception is under way.

    Raises:
        FfmpegError: when the block ends: ffmpeg failed.
    """

    def __init__(self, doing: str, arguments: Sequence[str]) -> None:
        self._doing = doing
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        self._process = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )

    @property
    def input(self) -> BinaryIO:
        """Where to write."""
        return cast(BinaryIO, self._process.stdin)

    @property
    def output(self) -> BinaryIO:
        """Where to read."""
        return cast(BinaryIO, self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # One that ended by itself is asked for its reason also where an exception is under way: it is the cause.
        if error is not None and not isinstance(error, ValueError | OSError):
            self._process.kill()
        try:
            self._process.communicate()
            if self._process.returncode > 0 or (self._process.returncode and error is None):
                raise FfmpegError(f"{self._doing}: {self._reason()}") from error
        finally:
            self._complaints.close()

    def _reason(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[0] if lines else f"ffmpeg ended with status {self._process.returncode}"
