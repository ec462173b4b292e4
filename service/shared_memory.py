"""Regions that clients on this host share with the server: who may, what is opened, and which slots are in use.

What a client names is not trusted. The name is looked up in one folder and nowhere else, links are not followed, and
the region must be a regular file of the server's user (or of a group of the server's, open to it), closed to everybody
else, of the size claimed, and begin with the token that the client gives.
"""

import hmac
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from humanseg.shared_memory import FOLDER, TOKEN_BYTES, RegionLayout, Span
from service.call_errors import CallError, Reason, invalid
from service.region import Region, SharedPicture
from service.stream_config import RequestedConfig
from service.stream_protocol import ReceivedFrame

#: What grpc calls a peer that must be on this host.
_LOCAL_PEER = re.compile(
    r"unix:|unix-abstract:|ipv4:127\.|ipv6:(\[|%5B)(::1|::ffff:127\.[0-9.]+)(\]|%5D)", re.IGNORECASE
)
_FIELD = "config.shared_memory"


@dataclass(frozen=True, slots=True)
class FieldNames:
    """How a protocol names what a client says of a region, for complaints."""

    request: str
    """What is not acceptable: "config"."""
    region: str
    name: str
    size: str


_CONFIG_FIELDS = FieldNames("config", _FIELD, f"{_FIELD}.name", f"{_FIELD}.size_bytes")


@dataclass(frozen=True, slots=True)
class RegionRequest:
    """A region as the client names it."""

    layout: RegionLayout
    token: bytes


class RegionDesk:
    """One stream's region: takes it from the config, looks up frames in it, and knows which slots are the server's."""

    def __init__(self, *, enabled: bool, peer: str, on_open: Callable[[RegionLayout], None]) -> None:
        """``peer`` as grpc names it; ``on_open`` is told of the region once it is open."""
        self._enabled = enabled
        self._peer = peer
        self._on_open = on_open
        self._region: Region | None = None
        self._in_use = False
        self._slots_of: dict[int, tuple[int, int]] = {}
        self._frame_of_picture_slot: dict[int, int] = {}
        self._frame_of_mask_slot: dict[int, int] = {}

    def take_config(self, requested: RequestedConfig, request: RegionRequest | None) -> RequestedConfig:
        """The config with its region open, if it names one.

        Raises:
            CallError: SHARED_MEMORY_REFUSED, CONFIG_INVALID.
        """
        self._in_use = request is not None
        if request is None:
            return requested
        if self._region is None:
            require_allowed(enabled=self._enabled, setting="--shared-memory", peer=self._peer, fields=_CONFIG_FIELDS)
            self._region = open_region(request)
            self._on_open(self._region.layout)
        elif self._region.layout != request.layout:
            text = f"the stream has region {self._region.layout.name!r}; name it again unchanged, or none"
            raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", [(_FIELD, text)])
        return replace(requested, shared_memory=self._region.layout)

    def take_frame(self, frame: ReceivedFrame, span: Span | None, mask_slot: int) -> ReceivedFrame:
        """The frame with its picture in the region, or with a complaint, which costs the frame and not the stream."""
        if span is None:
            return frame
        complaint = self._complaint(frame, span, mask_slot)
        if complaint is not None or self._region is None:
            return replace(frame, shared_complaint=complaint or "")
        self._slots_of[frame.frame_id] = (span.slot, mask_slot)
        self._frame_of_picture_slot[span.slot] = self._frame_of_mask_slot[mask_slot] = frame.frame_id
        return replace(frame, picture=SharedPicture(self._region, span, mask_slot))

    def answered(self, frame_id: int) -> None:
        """The frame's slots are the client's again."""
        slots = self._slots_of.pop(frame_id, None)
        if slots is not None:
            del self._frame_of_picture_slot[slots[0]], self._frame_of_mask_slot[slots[1]]

    def close(self) -> None:
        """The stream has ended."""
        if self._region is not None:
            self._region.close()

    def _complaint(self, frame: ReceivedFrame, span: Span, mask_slot: int) -> str | None:
        if self._region is None or not self._in_use:
            return "shared_picture without shared_memory in the config; register a region, or send the picture itself"
        if len(frame.picture):
            return "both picture and shared_picture are set; send one of them"
        layout = self._region.layout
        if text := layout.pictures.span_complaint(span):
            return f"shared_picture: {text}"
        if text := layout.masks.span_complaint(Span(mask_slot, 0, 0)):
            return f"mask_slot: {text}"
        for what, slot, holders in (
            ("shared_picture", span.slot, self._frame_of_picture_slot),
            ("mask_slot", mask_slot, self._frame_of_mask_slot),
        ):
            if slot in holders:
                return f"{what}: slot {slot} belongs to frame {holders[slot]} until that one is answered; use another"
        return None


def open_region(request: RegionRequest, folder: Path = FOLDER) -> Region:
    """Check and open what a client names.

    Raises:
        CallError: CONFIG_INVALID where the layout is wrong or the region is not as claimed; SHARED_MEMORY_REFUSED where
            its owner or mode is not as it must be.
    """
    layout = request.layout
    complaints = layout.complaints()
    if len(request.token) != TOKEN_BYTES:
        complaints.append(("token", f"{len(request.token)} bytes, expected the first {TOKEN_BYTES} of the region"))
    if complaints:
        raise invalid(
            Reason.CONFIG_INVALID, "config is not acceptable", [(f"{_FIELD}.{path}", text) for path, text in complaints]
        )
    descriptor = open_object(layout.name, layout.size_bytes, _CONFIG_FIELDS, folder)
    # Who cannot read a region must not make the server read or write it.
    if not hmac.compare_digest(os.pread(descriptor, TOKEN_BYTES, 0), request.token):
        os.close(descriptor)
        text = f"not the first {TOKEN_BYTES} bytes of region {layout.name!r}; write them there first"
        raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", [(f"{_FIELD}.token", text)])
    return Region(layout, descriptor)


def require_allowed(*, enabled: bool, setting: str, peer: str, fields: FieldNames) -> None:
    """Raises CallError (SHARED_MEMORY_REFUSED) where it is switched off, or the client is not on this host."""
    if not enabled:
        text = f"shared memory is switched off here; send pictures in the messages, or set {setting}"
    elif _LOCAL_PEER.match(peer) is None:
        text = f"shared memory is for clients on this host, not for {peer}; send pictures in the messages"
    else:
        return
    raise refused(text, fields)


def open_object(name: str, size_bytes: int, fields: FieldNames, folder: Path = FOLDER) -> int:
    """Open what a client names, a plain name without a path, and see that it may be used; returns the descriptor.

    Raises:
        CallError: CONFIG_INVALID where it is not there or smaller than ``size_bytes``; SHARED_MEMORY_REFUSED where its
            owner or mode is not as it must be.
    """
    summary = f"{fields.request} is not acceptable"
    try:
        # Not blocking: opening a pipe could wait for ever. No new terminal, no link, not for programs started here.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(folder / name, flags)
    except PermissionError:
        raise refused(f"region {name!r} may not be opened by the server's user; {_MODE_HINT}", fields) from None
    except OSError as error:
        text = f"region {name!r} cannot be opened: {error.strerror}; make it before the {fields.request} is sent"
        raise invalid(Reason.CONFIG_INVALID, summary, [(fields.name, text)]) from None
    try:
        _check_opened(descriptor, name, size_bytes, fields)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


_MODE_HINT = "make it with mode 0600 as the server's user, or 0660 with a group that both are in"


def _check_opened(descriptor: int, name: str, size_bytes: int, fields: FieldNames) -> None:
    summary = f"{fields.request} is not acceptable"
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        text = f"{name!r} is no shared-memory object; make one with shm_open"
        raise invalid(Reason.CONFIG_INVALID, summary, [(fields.name, text)])
    mode = stat.S_IMODE(status.st_mode)
    shown = f"region {name!r} (user {status.st_uid}, group {status.st_gid}, mode {mode:04o})"
    is_ours = status.st_uid == os.geteuid()
    is_our_groups = status.st_gid in {os.getegid(), *os.getgroups()} and mode & 0o060 == 0o060
    # Asked for, and not left to the file system: a server that runs as root may open everything.
    if not (is_ours or is_our_groups):
        raise refused(f"{shown} is neither the server's user's nor open to a group of his; {_MODE_HINT}", fields)
    if mode & 0o007:
        raise refused(f"{shown} is open to everybody on this host; {_MODE_HINT}", fields)
    if status.st_size < size_bytes:
        text = f"{name!r} has {status.st_size} bytes, claimed were {size_bytes}; make it that large first"
        raise invalid(Reason.CONFIG_INVALID, summary, [(fields.size, text)])


def refused(text: str, fields: FieldNames) -> CallError:
    """The error of a region that may not be used."""
    return CallError(Reason.SHARED_MEMORY_REFUSED, f"no shared memory: {text}", fields=[(fields.region, text)])
