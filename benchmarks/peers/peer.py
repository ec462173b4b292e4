"""The base class of everything that is compared: a picture in, its alpha out, as a user would call it."""

from abc import ABC, abstractmethod

from humanseg.vision.arrays import Alpha, Picture


class PeerUnavailableError(Exception):
    """A peer that cannot be run here: a package, a file or a server is missing; one line for people."""


class Peer(ABC):
    """One contestant, open; made in the process that measures it."""

    @abstractmethod
    def segment(self, picture: Picture) -> Alpha:
        """A still: (H, W, 3) uint8 RGB to its alpha, (H, W) float32 in [0, 1]."""

    def follow(self, picture: Picture, capture_time_us: int) -> Alpha:
        """The next frame of a video; a peer without a memory of earlier frames treats it as a still."""
        del capture_time_us
        return self.segment(picture)

    def cpu_elsewhere_s(self) -> float:
        """CPU time that was spent for it outside this process so far, in seconds."""
        return 0.0

    def close(self) -> None:  # noqa: B027  # most hold nothing that must be freed
        """Free what it holds."""
