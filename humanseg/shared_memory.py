"""Pictures, masks and finished pictures through memory of client and server, for a client on the server's own host.

Both sides read and write the region by ``pread`` and ``pwrite`` on its descriptor and never map it: a region that the
other side makes smaller then gives a short read, where touching a mapping would kill the process (SIGBUS). What that
costs stands in docs/design.md. The layout is the contract's (``SharedMemory`` in the proto); `SegmentationStream` uses
a `ClientRegion` where `SegmentationClient.stream` is given `SharedMemory`.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc

from humanseg.composite_config import Composite, TransparentBackground
from humanseg.errors import LimitExceededError
from humanseg.frames import LARGEST_BYTES_PER_PX, PixelFormat, frame_bytes
from humanseg.session_config import SessionConfig
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size

#: Where Linux keeps POSIX shared-memory objects.
FOLDER = Path("/dev/shm")
NAME_PREFIX = "humanseg-"
NAME_PATTERN = re.compile(re.escape(NAME_PREFIX) + r"[A-Za-z0-9._-]{1,200}", re.ASCII)
#: The region begins with this many random bytes, which the config repeats.
TOKEN_BYTES = 32
SLOTS_LIMIT = 64
#: Slots begin on pages of their own, so that the two sides write to different ones.
_PAGE_BYTES = 4096
#: A PNG or JPEG of noise is larger than its pixels by some bytes a row.
_FILE_SLACK_BYTES = LARGEST_BYTES_PER_PX * _PAGE_BYTES
#: A region that nobody holds is somebody's remains only when it is older than this: its maker may be about to lock it.
_STALE_AFTER_S = 60.0


class Span(NamedTuple):
    """Bytes in a slot: its number, where they begin in it, how many there are."""

    slot: int
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Ring:
    """Slots of equal size: slot n begins at ``offset_bytes`` + n * ``stride_bytes`` of the region."""

    offset_bytes: int
    slot_bytes: int
    stride_bytes: int
    slots: int

    @property
    def end_bytes(self) -> int:
        """Behind the last slot."""
        return self.offset_bytes + (self.slots - 1) * self.stride_bytes + self.slot_bytes

    def complaint(self, size_bytes: int) -> str | None:
        """What is wrong with the ring in a region of that size, if anything."""
        if not 1 <= self.slots <= SLOTS_LIMIT:
            return f"slots {self.slots}, allowed are 1 to {SLOTS_LIMIT}"
        if self.slot_bytes < 1:
            return f"slot_bytes {self.slot_bytes}, a slot holds at least 1"
        if self.stride_bytes < self.slot_bytes:
            return (
                f"stride_bytes {self.stride_bytes} below slot_bytes {self.slot_bytes}: slots overlap; use at least that"
            )
        if self.offset_bytes < TOKEN_BYTES:
            return f"offset_bytes {self.offset_bytes} lies in the token; begin at {TOKEN_BYTES} or later"
        if self.end_bytes > size_bytes:
            return (
                f"the last slot ends at {self.end_bytes}, behind the region's size_bytes {size_bytes}; make it larger"
            )
        return None

    def span_complaint(self, span: Span) -> str | None:
        """What is wrong with bytes in a slot of this ring, if anything."""
        if span.slot >= self.slots:
            return f"slot {span.slot}, there are 0 to {self.slots - 1}"
        end_bytes = span.offset_bytes + span.length_bytes
        if end_bytes > self.slot_bytes:
            return (
                f"offset_bytes {span.offset_bytes} and length_bytes {span.length_bytes} end at {end_bytes},"
                f" behind slot_bytes {self.slot_bytes}"
            )
        return None

    def position(self, span: Span) -> int:
        """Where bytes in a slot begin, counted from the beginning of the region."""
        return self.offset_bytes + span.slot * self.stride_bytes + span.offset_bytes

    def to_message(self) -> pb.SharedRing:
        """As it goes over the wire."""
        return pb.SharedRing(
            offset_bytes=self.offset_bytes,
            slot_bytes=self.slot_bytes,
            stride_bytes=self.stride_bytes,
            slots=self.slots,
        )

    @classmethod
    def from_message(cls, message: pb.SharedRing) -> "Ring":
        """As it came over the wire, not checked."""
        return cls(message.offset_bytes, message.slot_bytes, message.stride_bytes, message.slots)


@dataclass(frozen=True, slots=True)
class RegionLayout:
    """A region and what lies where in it."""

    name: str
    size_bytes: int
    pictures: Ring
    masks: Ring

    def complaints(self) -> list[tuple[str, str]]:
        """(field, what is wrong with it), none where the layout can be used."""
        found = []
        if NAME_PATTERN.fullmatch(self.name) is None:
            allowed = f"allowed are {NAME_PREFIX!r} and then 1 to 200 letters, digits, '.', '_' or '-', no path"
            found.append(("name", f"{self.name[:80]!r} is no name of a region; {allowed}"))
        rings = (("pictures", self.pictures), ("masks", self.masks))
        found += [(field, text) for field, ring in rings if (text := ring.complaint(self.size_bytes))]
        first, second = sorted((self.pictures, self.masks), key=lambda ring: ring.offset_bytes)
        if not found and first.end_bytes > second.offset_bytes:
            text = f"begins at {second.offset_bytes}, before the other ring ends at {first.end_bytes}; set them apart"
            found.append(("masks" if second is self.masks else "pictures", text))
        return found

    def to_message(self, token: bytes = b"") -> pb.SharedMemory:
        """As it goes over the wire."""
        return pb.SharedMemory(
            name=self.name,
            size_bytes=self.size_bytes,
            token=token,
            pictures=self.pictures.to_message(),
            masks=self.masks.to_message(),
        )

    @classmethod
    def from_message(cls, message: pb.SharedMemory) -> "RegionLayout":
        """As it came over the wire, not checked."""
        pictures, masks = Ring.from_message(message.pictures), Ring.from_message(message.masks)
        return cls(message.name, message.size_bytes, pictures, masks)

    @classmethod
    def plan(cls, picture_bytes: int, mask_bytes: int, slots: int) -> "RegionLayout":
        """A region of a new name with as many slots for pictures as for masks."""
        picture_stride, mask_stride = _round_to_page(picture_bytes), _round_to_page(mask_bytes)
        pictures = Ring(_round_to_page(TOKEN_BYTES), picture_bytes, picture_stride, slots)
        masks = Ring(pictures.offset_bytes + slots * picture_stride, mask_bytes, mask_stride, slots)
        size_bytes = masks.offset_bytes + slots * mask_stride
        return cls(f"{NAME_PREFIX}{os.getpid()}-{secrets.token_hex(8)}", size_bytes, pictures, masks)


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """How a stream is to share memory with a server on the same host; see `SegmentationClient.stream`.

    Attributes:
        slots: frames that may be without an answer at a time, 1 to 64; `SegmentationStream.send` waits for one.
        largest: the largest frame or mask to come, where it is not the config's; frames beyond it are refused.
        group_id: for a server of another user: a group that both are in. The region is then open to that group.
    """

    slots: int = 4
    largest: Size | None = None
    group_id: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= SLOTS_LIMIT:
            raise ValueError(f"slots {self.slots}, allowed are 1 to {SLOTS_LIMIT}")

    def plan(self, config: SessionConfig) -> RegionLayout:
        """The region for a stream that begins with this config."""
        size = self.largest or config.size
        raw_format = PixelFormat.RGB24 if config.pixel_format.compressed else config.pixel_format
        mask_bytes = max(size.area_px, (config.mask_size or size).area_px) + _FILE_SLACK_BYTES
        if config.composite is not None:
            mask_bytes = max(mask_bytes, _finished_bytes(config.composite, config.pixel_format, size))
        return RegionLayout.plan(frame_bytes(raw_format, size) + _FILE_SLACK_BYTES, mask_bytes, self.slots)


class ClientRegion:
    """A region of this process's, and which of its slots are free. Belongs to one event loop."""

    def __init__(self, wanted: SharedMemory, config: SessionConfig, folder: Path = FOLDER) -> None:
        """Make the region, and take away what killed clients of this user have left behind.

        Raises:
            OSError: the system has no room for it, or no shared memory.
        """
        sweep_stale_regions(folder)
        self.layout = wanted.plan(config)
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._path = folder / self.layout.name
        self._free = deque(range(wanted.slots))
        self._slot_of: dict[int, int] = {}
        self._linked = True
        mode = 0o600 if wanted.group_id is None else 0o660
        self._descriptor = create_object(self._path, self.layout.size_bytes)
        try:
            os.pwrite(self._descriptor, self.token, 0)
            if wanted.group_id is not None:
                os.fchown(self._descriptor, -1, wanted.group_id)
            os.fchmod(self._descriptor, mode)
        except BaseException:
            self.close()
            raise

    @property
    def has_free_slot(self) -> bool:
        """Whether `put` has room."""
        return bool(self._free)

    def to_message(self) -> pb.SharedMemory:
        """The region as the config names it."""
        return self.layout.to_message(self.token)

    def require_fit(self, picture: bytes | memoryview) -> None:
        """Refuse a picture that is larger than a slot.

        Raises:
            LimitExceededError: it is.
        """
        length, slot_bytes = len(picture), self.layout.pictures.slot_bytes
        if length > slot_bytes:
            raise LimitExceededError(
                f"picture of {length} bytes exceeds the {slot_bytes} bytes of a slot; give SharedMemory(largest=...)",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                metadata={"slot_bytes": str(slot_bytes)},
            )

    def require_room_for(self, config: SessionConfig) -> None:
        """Refuse a config whose finished pictures may be larger than a mask slot.

        Raises:
            LimitExceededError: they may.
        """
        if config.composite is None:
            return
        needed = _finished_bytes(config.composite, config.pixel_format, config.size)
        slot_bytes = self.layout.masks.slot_bytes
        if needed > slot_bytes:
            raise LimitExceededError(
                f"finished pictures of up to {needed} bytes exceed the {slot_bytes} bytes of a mask slot; open the"
                " stream with this composite, or give SharedMemory(largest=...)",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                metadata={"slot_bytes": str(slot_bytes)},
            )

    def put(self, frame: pb.Frame, picture: bytes | memoryview) -> None:
        """Write a picture that fits into a free slot, which is the frame's until `release`."""
        slot = self._free.popleft()
        self._slot_of[frame.frame_id] = slot
        write_whole(self._descriptor, picture, self.layout.pictures.position(Span(slot, 0, len(picture))))
        frame.shared_picture.slot, frame.shared_picture.length_bytes = slot, len(picture)
        frame.mask_slot = slot

    def mask_of(self, result: pb.FrameResult) -> bytes | memoryview:
        """The bytes of a result's mask; where they lie in the region, a copy.

        Raises:
            ValueError: the server names bytes that are not in the region.
        """
        return self._copy_of(result.shared_mask, "mask") if result.HasField("shared_mask") else result.mask

    def picture_of(self, result: pb.FrameResult) -> bytes:
        """The bytes of a result's finished picture; where they lie in the region, a copy.

        Raises:
            ValueError: the server names bytes that are not in the region.
        """
        if not result.HasField("shared_picture"):
            return result.picture
        return bytes(self._copy_of(result.shared_picture, "picture"))

    def _copy_of(self, shared: pb.SharedSpan, what: str) -> memoryview:
        span = Span(shared.slot, shared.offset_bytes, shared.length_bytes)
        if complaint := self.layout.masks.span_complaint(span):
            raise ValueError(f"shared {what}: {complaint}")
        copy = bytearray(span.length_bytes)
        read_whole(self._descriptor, copy, self.layout.masks.position(span))
        return memoryview(copy).toreadonly()

    def release(self, frame_id: int) -> None:
        """The frame has its answer; its slot is free again."""
        slot = self._slot_of.pop(frame_id, None)
        if slot is not None:
            self._free.append(slot)

    def unlink(self) -> None:
        """Take the name away: whoever has the region open keeps it, and nothing is left when both sides are gone."""
        if self._linked:
            self._linked = False
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def close(self) -> None:
        """Let go of the region; a second call does nothing."""
        self.unlink()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def create_object(path: Path, size_bytes: int) -> int:
    """Make a shared-memory object that is this user's alone and lies in memory as a whole; its descriptor.

    Raises:
        OSError: the system has no room for it, or no shared memory.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Held until this process ends, however it ends: that is how `sweep_stale_regions` tells remains.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Now, rather than page by page: a full /dev/shm says so here.
        os.posix_fallocate(descriptor, 0, size_bytes)
    except BaseException:
        path.unlink()
        os.close(descriptor)
        raise
    return descriptor


def write_whole(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Write all of it.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def read_whole(descriptor: int, into: bytearray | memoryview, position: int) -> None:
    """Fill ``into``.

    Raises:
        ValueError: the region ends before that.
        OSError: it cannot be read.
    """
    view, wanted = memoryview(into), len(into)
    while view:
        count = os.preadv(descriptor, [view], position)
        if count == 0:
            raise ValueError(f"the region ends after {wanted - len(view)} of {wanted} bytes; never make it smaller")
        view, position = view[count:], position + count


def sweep_stale_regions(folder: Path = FOLDER) -> None:
    """Take away this user's regions whose makers were killed before the server had them.

    A client takes the name of its region away as soon as the server has it, and holds a lock on it from the start. So
    what has a name, nobody's lock and some age is nobody's any more. The age is for the moment between making and
    locking.
    """
    for path in folder.glob(f"{NAME_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    seen = path.lstat()
    too_young = time.time() - seen.st_mtime < _STALE_AFTER_S
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or too_young:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


def _finished_bytes(composite: Composite, input_format: PixelFormat, size: Size) -> int:
    """No finished picture of a frame of that size has more bytes."""
    if isinstance(composite.background, TransparentBackground):
        pixel_bytes = 4 * size.area_px
    else:
        picture_format = composite.picture_format or input_format
        if picture_format.compressed:
            # A JPEG holds whole blocks of 16x16.
            picture_format, size = PixelFormat.RGB24, Size(-(-size.width // 16) * 16, -(-size.height // 16) * 16)
        pixel_bytes = frame_bytes(picture_format, size)
    # What the blocks and chunks of a large PNG add to pixels that cannot be packed is 0.2 %.
    return pixel_bytes + pixel_bytes // 256 + _FILE_SLACK_BYTES


def _round_to_page(count: int) -> int:
    return -(-count // _PAGE_BYTES) * _PAGE_BYTES
