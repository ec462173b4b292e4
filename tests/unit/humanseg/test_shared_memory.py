"""Layout of shared regions, and what the client does with its own."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from humanseg.composite_config import BlurBackground, Composite, TransparentBackground
from humanseg.frames import PixelFormat
from humanseg.session_config import SessionConfig
from humanseg.shared_memory import ClientRegion, RegionLayout, Ring, SharedMemory, Span, read_whole, sweep_stale_regions
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.cv import encode_png_rgba
from support.server import ROOT

CONFIG = SessionConfig(Size(32, 18), pixel_format=PixelFormat.I420)
BYTES = 32 * 18 * 3 // 2

rings = st.builds(
    Ring,
    offset_bytes=st.integers(0, 200),
    slot_bytes=st.integers(0, 40),
    stride_bytes=st.integers(0, 60),
    slots=st.integers(0, 6),
)


@given(rings, rings, st.integers(0, 600))
def test_an_accepted_layout_gives_every_byte_to_one_slot_at_most(pictures: Ring, masks: Ring, size_bytes: int) -> None:
    layout = RegionLayout("humanseg-x", size_bytes, pictures, masks)
    owners = np.zeros(10_000, np.uint8)
    owners[:32] += 1
    for ring in (pictures, masks):
        for slot in range(ring.slots):
            begin = ring.position(Span(slot, 0, 0))
            owners[begin : begin + ring.slot_bytes] += 1
    is_sound = owners.max() == 1 and not owners[size_bytes:].any()
    if not layout.complaints():
        assert is_sound
        assert all(ring.slots and ring.slot_bytes for ring in (pictures, masks))


@given(rings, st.integers(0, 10), st.integers(0, 60), st.integers(0, 60))
def test_an_accepted_span_lies_in_its_slot(ring: Ring, slot: int, offset_bytes: int, length_bytes: int) -> None:
    span = Span(slot, offset_bytes, length_bytes)
    fits = slot < ring.slots and offset_bytes + length_bytes <= ring.slot_bytes
    assert (ring.span_complaint(span) is None) == fits


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(1, 64))
def test_a_planned_layout_is_acceptable_and_survives_the_wire(picture: int, mask: int, slots: int) -> None:
    layout = RegionLayout.plan(picture, mask, slots)
    assert layout.complaints() == []
    assert RegionLayout.from_message(layout.to_message()) == layout


def test_slots_come_back_with_the_answer(tmp_path: Path) -> None:
    region = ClientRegion(SharedMemory(slots=2), CONFIG, tmp_path)
    first, second = pb.Frame(frame_id=5), pb.Frame(frame_id=6)
    region.put(first, b"a" * BYTES)
    region.put(second, b"b" * BYTES)
    assert {first.mask_slot, second.mask_slot} == {0, 1}
    assert not region.has_free_slot
    region.release(5)
    region.release(5)  # a second answer would not give it out twice
    third = pb.Frame(frame_id=7)
    region.put(third, b"c" * BYTES)
    assert third.mask_slot == first.mask_slot
    assert not region.has_free_slot
    region.close()
    region.close()
    assert list(tmp_path.iterdir()) == []


def test_a_mask_outside_its_slot_is_refused(tmp_path: Path) -> None:
    region = ClientRegion(SharedMemory(slots=1), CONFIG, tmp_path)
    with pytest.raises(ValueError, match="slot 1, there are 0 to 0"):
        region.mask_of(pb.FrameResult(shared_mask=pb.SharedSpan(slot=1, length_bytes=1)))
    region.close()


def test_a_finished_picture_outside_its_slot_is_refused(tmp_path: Path) -> None:
    region = ClientRegion(SharedMemory(slots=1), CONFIG, tmp_path)
    with pytest.raises(ValueError, match="shared picture: offset_bytes 1 and length_bytes"):
        length_bytes = region.layout.masks.slot_bytes
        region.picture_of(pb.FrameResult(shared_picture=pb.SharedSpan(offset_bytes=1, length_bytes=length_bytes)))
    region.close()


@pytest.mark.parametrize("size", [Size(1, 5000), Size(1920, 1080)], ids=str)
def test_a_slot_holds_the_largest_finished_picture(size: Size) -> None:
    """Noise, which no file can pack: as PNG with transparency it is larger than its pixels."""
    rng = np.random.default_rng(1)
    config = SessionConfig(size, pixel_format=PixelFormat.JPEG, composite=Composite(TransparentBackground()))
    png = encode_png_rgba(rng.integers(0, 256, (*size.shape, 4), np.uint8))
    assert 4 * size.area_px < len(png) <= SharedMemory().plan(config).masks.slot_bytes
    config = replace(config, composite=Composite(BlurBackground(), PixelFormat.JPEG, jpeg_quality=100))
    jpeg = simplejpeg.encode_jpeg(rng.integers(0, 256, (*size.shape, 3), np.uint8), 100, "RGB", "420")
    assert len(jpeg) <= SharedMemory().plan(config).masks.slot_bytes


def test_the_file_is_as_the_server_asks(tmp_path: Path) -> None:
    region = ClientRegion(SharedMemory(group_id=os.getegid()), CONFIG, tmp_path)
    status = (tmp_path / region.layout.name).stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, os.getegid())
    assert status.st_size == region.layout.size_bytes
    assert (tmp_path / region.layout.name).read_bytes()[:32] == region.token
    region.close()


def test_what_a_killed_client_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from humanseg import SessionConfig, SharedMemory, Size\n"
        "from humanseg.shared_memory import ClientRegion\n"
        "region = ClientRegion(SharedMemory(), SessionConfig(Size(8, 8)), Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    living = ClientRegion(SharedMemory(), CONFIG, tmp_path)
    (tmp_path / "other").write_bytes(b"")
    young = set(tmp_path.iterdir())
    assert left in young, "it may be about to be locked"
    long_ago_s = time.time() - 3600
    for path in young:
        os.utime(path, (long_ago_s, long_ago_s))
    sweep_stale_regions(tmp_path)
    assert set(tmp_path.iterdir()) == young - {left}
    living.close()


def test_a_region_that_ends_early_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"12345")
    with (tmp_path / "short").open("rb") as file, pytest.raises(ValueError, match="ends after 3 of 9 bytes"):
        read_whole(file.fileno(), bytearray(9), 2)


@pytest.mark.parametrize("slots", [0, 65])
def test_a_number_of_slots_that_cannot_be(slots: int) -> None:
    with pytest.raises(ValueError, match=f"slots {slots}, allowed are 1 to 64"):
        SharedMemory(slots=slots)
