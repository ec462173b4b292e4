"""Regions of shared memory as a client makes them, and everything else that a bad one may put in their place."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from humanseg.shared_memory import FOLDER, TOKEN_BYTES, RegionLayout, Span
from humanseg.v1 import segmentation_pb2 as pb


@dataclass
class TestRegion:
    """A region under its name, open here."""

    __test__ = False

    layout: RegionLayout
    token: bytes
    descriptor: int

    @property
    def path(self) -> Path:
        return FOLDER / self.layout.name

    def message(self, **changes: object) -> pb.SharedMemory:
        """As the config names it, with some fields of it changed."""
        message = self.layout.to_message(self.token)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def put(self, picture: bytes, slot: int = 0, mask_slot: int = 0, offset_bytes: int = 0) -> dict[str, object]:
        """Write a picture into a slot; returns the fields of its frame."""
        span = Span(slot, offset_bytes, len(picture))
        os.pwrite(self.descriptor, picture, self.layout.pictures.position(span))
        shared = pb.SharedSpan(slot=slot, offset_bytes=offset_bytes, length_bytes=len(picture))
        return {"shared_picture": shared, "mask_slot": mask_slot}

    def mask(self, result: pb.FrameResult) -> bytes:
        """The bytes of the mask, or of the finished picture, that a result names."""
        shared = result.shared_picture if result.HasField("shared_picture") else result.shared_mask
        position = self.layout.masks.position(Span(shared.slot, shared.offset_bytes, shared.length_bytes))
        return os.pread(self.descriptor, shared.length_bytes, position)


@contextmanager
def shared_region(picture_bytes: int, mask_bytes: int, slots: int = 2, mode: int = 0o600) -> Iterator[TestRegion]:
    """A region in order, gone at the end whatever became of it."""
    layout = RegionLayout.plan(picture_bytes, mask_bytes, slots)
    layout = replace(layout, name=f"humanseg-test-{secrets.token_hex(6)}")
    token = secrets.token_bytes(TOKEN_BYTES)
    path = FOLDER / layout.name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, mode)
        os.ftruncate(descriptor, layout.size_bytes)
        os.pwrite(descriptor, token, 0)
        yield TestRegion(layout, token, descriptor)
    finally:
        os.close(descriptor)
        for left in FOLDER.glob(f"{layout.name}*"):  # and what tests have put in its place
            if left.is_dir():
                left.rmdir()
            else:
                left.unlink()
