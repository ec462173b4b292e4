"""The stream's state machine, driven without a socket."""

from collections.abc import Hashable
from pathlib import Path

import pytest

from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, FramePolicy, TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import ResetReason
from service.call_errors import ProtocolViolation, Reason
from service.stream_config import LONGEST_DEADLINE_NS, SHORTEST_DEADLINE_NS, ConfigDefaults, RequestedConfig, SizeLimits
from service.stream_protocol import (
    BACKLOG_LIMIT,
    ESTIMATES_IN_A_ROW,
    ESTIMATES_WAITING,
    EVERY_WAITING,
    ConfigEntry,
    DegradeEntry,
    DropEntry,
    DropReason,
    EstimateEntry,
    FrameEntry,
    NoticeEntry,
    NoticeReason,
    ReceivedFrame,
    State,
    StreamProtocol,
)

LIMITS = SizeLimits(max_frame_bytes=1920 * 1080 * 3, max_frame_px=1920 * 1080, max_side_px=4096)
CONFIG = RequestedConfig(model="medium", width=64, height=36)
PROTO = Path(__file__).resolve().parents[3] / "proto" / "humanseg" / "v1" / "segmentation.proto"
MASK_SIZE = "config.mask_width, config.mask_height"
ESTIMATING = RequestedConfig(width=64, height=36, estimates=Estimates.SUPERSEDED)
I420_BYTES = 64 * 36 * 3 // 2


class Models:
    """Two models; medium places frames by their aspect ratio, as the real one does."""

    default = "medium"
    names = ("medium", "large")

    def geometry(self, model: str, size: Size, rotation: Rotation) -> Hashable:
        turned = rotation in (Rotation.DEG_90, Rotation.DEG_270)
        return round((size.height / size.width if turned else size.width / size.height), 2)


def opened(config: RequestedConfig = CONFIG) -> StreamProtocol:
    protocol = StreamProtocol(Models(), LIMITS)
    protocol.receive_config(config)
    assert isinstance(protocol.next_entry(), ConfigEntry)
    return protocol


def frame(frame_id: int, picture: bytes = bytes(I420_BYTES), **fields: object) -> ReceivedFrame:
    return ReceivedFrame(frame_id, frame_id * 33_333, picture, **fields)  # type: ignore[arg-type]


def test_the_config_echo_has_every_default_filled_in() -> None:
    protocol = StreamProtocol(Models(), LIMITS)
    protocol.receive_config(RequestedConfig(width=64, height=36))
    entry = protocol.next_entry()
    assert isinstance(entry, ConfigEntry)
    config = entry.config
    assert (config.model, config.size, config.pixel_format) == ("medium", (64, 36), PixelFormat.I420)
    assert (config.rotation, config.fusion, config.encoding) == (
        Rotation.DEG_0, TemporalFusion.HIGH, MaskEncoding.ALPHA8,
    )  # fmt: skip
    assert (config.mask_size, config.policy, entry.resets) == (None, FramePolicy.NEWEST, ())
    assert config.estimates is Estimates.OFF


@pytest.mark.parametrize(
    ("requested_ns", "policy", "holds_ns"),
    [
        (None, None, 10**9),
        (None, FramePolicy.EVERY, None),
        (0, None, None),
        (5 * 10**6, FramePolicy.EVERY, 5 * 10**6),
        (SHORTEST_DEADLINE_NS, None, SHORTEST_DEADLINE_NS),
        (LONGEST_DEADLINE_NS, None, LONGEST_DEADLINE_NS),
    ],
)
def test_the_deadline_that_holds(requested_ns: int | None, policy: FramePolicy | None, holds_ns: int | None) -> None:
    protocol = StreamProtocol(Models(), LIMITS, ConfigDefaults(frame_deadline_ns=10**9))
    protocol.receive_config(RequestedConfig(width=64, height=36, policy=policy, frame_deadline_ns=requested_ns))
    assert protocol.config is not None
    assert protocol.config.frame_deadline_ns == holds_ns


@pytest.mark.parametrize("deadline_ns", [-1, 1, SHORTEST_DEADLINE_NS - 1, LONGEST_DEADLINE_NS + 1, 2**63 * 10**9])
def test_a_deadline_out_of_range_is_refused(deadline_ns: int) -> None:
    protocol = StreamProtocol(Models(), LIMITS)
    with pytest.raises(ProtocolViolation, match=r"out of range, allowed are 0\.001 to 3600 s") as caught:
        protocol.receive_config(RequestedConfig(width=64, height=36, frame_deadline_ns=deadline_ns))
    assert [field for field, _ in caught.value.fields] == ["config.frame_deadline"]


def taken(protocol: StreamProtocol) -> list[tuple[str, int]]:
    """All that waits, as (kind, frame id or level)."""
    found = []
    while (entry := protocol.next_entry()) is not None:
        match entry:
            case FrameEntry():
                found.append(("network", entry.frame_id))
            case EstimateEntry():
                found.append(("skipped" if entry.is_skipped else "estimate", entry.frame.frame_id))
            case DropEntry():
                found.append((entry.reason.name, entry.frame_id))
            case DegradeEntry():
                found.append(("level", entry.level))
    return found


EVERY_SECOND = DegradeEntry(went_down=True, level=1, model="medium", every_second=True)


def test_degraded_to_every_second_frame_the_others_are_left_to_estimates() -> None:
    protocol = opened()
    protocol.degrade(EVERY_SECOND)
    seen = []
    for number in range(1, 7):
        protocol.receive_frame(frame(number), 0)
        seen += taken(protocol)
    assert seen == [
        ("level", 1), ("skipped", 1), ("network", 2), ("skipped", 3), ("network", 4), ("skipped", 5), ("network", 6),
    ]  # fmt: skip
    protocol.degrade(DegradeEntry(went_down=False, level=0, model="medium", every_second=False))
    for number in (7, 8):
        protocol.receive_frame(frame(number), 0)
        assert taken(protocol)[-1] == ("network", number)


def test_a_frame_that_is_left_out_supersedes_nothing() -> None:
    """The one that waits is the next to have a mask, and the one left out is estimated from that."""
    protocol = opened()
    protocol.degrade(EVERY_SECOND)
    for number in range(1, 6):
        protocol.receive_frame(frame(number), 0)
    assert protocol.waiting_frames == 1
    assert taken(protocol) == [
        ("level", 1),
        ("skipped", 1),
        ("SUPERSEDED", 2),
        ("skipped", 3),
        ("network", 4),
        ("skipped", 5),
    ]


def test_every_is_never_left_out() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, policy=FramePolicy.EVERY))
    protocol.degrade(EVERY_SECOND)
    for number in (1, 2):
        protocol.receive_frame(frame(number), 0)
    assert taken(protocol) == [("level", 1), ("network", 1), ("network", 2)]


def test_a_frame_before_the_config_ends_the_stream() -> None:
    protocol = StreamProtocol(Models(), LIMITS)
    with pytest.raises(ProtocolViolation, match="frame 4 came before the first config") as caught:
        protocol.receive_frame(frame(4), 0)
    assert caught.value.reason is Reason.CONFIG_MISSING
    assert protocol.finished


@pytest.mark.parametrize("second", [7, 6, 0])
def test_ids_must_grow(second: int) -> None:
    protocol = opened()
    protocol.receive_frame(frame(7), 0)
    with pytest.raises(ProtocolViolation, match=f"frame_id {second} after 7") as caught:
        protocol.receive_frame(frame(second), 0)
    assert caught.value.reason is Reason.FRAME_ID_NOT_INCREASING


def test_even_a_dropped_frame_uses_up_its_id() -> None:
    protocol = opened()
    protocol.receive_frame(frame(7, b"short"), 0)
    with pytest.raises(ProtocolViolation):
        protocol.receive_frame(frame(7), 0)


@pytest.mark.parametrize(
    ("broken", "path", "text"),
    [
        (RequestedConfig(width=0, height=0), "config.width, config.height", "size 0x0 is empty"),
        (RequestedConfig(width=0, height=5), "config.width, config.height", "size 0x5 is empty"),
        (RequestedConfig(width=5000, height=1), "config.width, config.height", "max_side_px 4096"),
        (RequestedConfig(width=4096, height=4096), "config.width, config.height", "max_frame_px 2073600"),
        (RequestedConfig(width=4, height=4, pixel_format=PixelFormat.PNG), "config.pixel_format", "Segment only"),
        (RequestedConfig(width=4, height=4, mask_width=8), MASK_SIZE, "8x0 is empty"),
        (RequestedConfig(width=4, height=4, mask_width=9999, mask_height=1), MASK_SIZE, "4096"),
        (RequestedConfig(width=4, height=4, label="x" * 65), "config.session_label", "65 characters"),
        (RequestedConfig(width=4, height=4, label="a\nb"), "config.session_label", "printable ASCII"),
    ],
)  # fmt: skip
def test_a_bad_config_names_field_value_and_what_is_allowed(broken: RequestedConfig, path: str, text: str) -> None:
    protocol = StreamProtocol(Models(), LIMITS)
    with pytest.raises(ProtocolViolation) as caught:
        protocol.receive_config(broken)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert dict(caught.value.fields).keys() == {path}
    assert text in dict(caught.value.fields)[path]


def test_an_unknown_model_names_those_that_are_served() -> None:
    with pytest.raises(ProtocolViolation) as caught:
        StreamProtocol(Models(), LIMITS).receive_config(RequestedConfig(model="huge", width=4, height=4))
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    assert caught.value.metadata == {"served_models": "medium, large"}


@pytest.mark.parametrize(
    ("sent", "reason", "text"),
    [
        (frame(1, bytes(I420_BYTES - 1)), DropReason.WRONG_BYTE_COUNT, "3455 bytes for I420 64x36, expected 3456"),
        (frame(1, bytes(I420_BYTES + 1)), DropReason.WRONG_BYTE_COUNT, "3457 bytes"),
        (frame(1, b""), DropReason.WRONG_BYTE_COUNT, "0 bytes"),
        (frame(1, width=64), DropReason.BAD_SIZE, "64x0 gives one side only"),
        (frame(1, width=100_000, height=1), DropReason.BAD_SIZE, "max_side_px"),
        (frame(1, width=32, height=18), DropReason.WRONG_BYTE_COUNT, "expected 864"),
        (frame(1, unknown_field="rotation: value 9 is not known"), DropReason.BAD_FIELD, "value 9"),
    ],
)
def test_a_broken_frame_is_dropped_with_the_reason_and_the_stream_lives(
    sent: ReceivedFrame, reason: DropReason, text: str
) -> None:
    protocol = opened()
    protocol.receive_frame(sent, 0)
    entry = protocol.next_entry()
    assert isinstance(entry, DropEntry)
    assert (entry.frame_id, entry.reason) == (1, reason)
    assert text in entry.detail
    protocol.receive_frame(frame(2), 0)
    assert isinstance(protocol.next_entry(), FrameEntry)


def test_an_empty_jpeg_and_one_over_the_limit_are_dropped() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, pixel_format=PixelFormat.JPEG))
    protocol.receive_frame(frame(1, b""), 0)
    protocol.receive_frame(frame(2, bytes(LIMITS.max_frame_bytes + 1)), 0)
    reasons = [entry.reason for entry in iter(protocol.next_entry, None) if isinstance(entry, DropEntry)]
    assert reasons == [DropReason.UNDECODABLE, DropReason.BAD_SIZE]


def test_newest_wins_and_answers_keep_the_order_sent() -> None:
    protocol = opened()
    for frame_id in range(1, 6):
        protocol.receive_frame(frame(frame_id), 0)
    entries = list(iter(protocol.next_entry, None))
    assert [entry.frame_id for entry in entries if not isinstance(entry, ConfigEntry | NoticeEntry)] == [1, 2, 3, 4, 5]
    assert [type(entry) for entry in entries] == [DropEntry] * 4 + [FrameEntry]
    assert all(entry.reason is DropReason.SUPERSEDED for entry in entries if isinstance(entry, DropEntry))
    assert protocol.waiting_frames == 0


def test_a_frame_in_work_is_not_superseded() -> None:
    protocol = opened()
    protocol.receive_frame(frame(1), 0)
    working = protocol.next_entry()
    protocol.receive_frame(frame(2), 0)
    assert isinstance(working, FrameEntry)
    assert isinstance(protocol.next_entry(), FrameEntry)


def test_superseded_frames_become_estimates_where_the_config_asks_for_them() -> None:
    protocol = opened(ESTIMATING)
    for frame_id in (1, 2, 3):
        protocol.receive_frame(frame(frame_id), 0)
    first, second, third = iter(protocol.next_entry, None)
    assert isinstance(first, EstimateEntry)
    assert isinstance(second, EstimateEntry)
    assert isinstance(third, FrameEntry)
    assert (first.frame.frame_id, second.frame.frame_id, third.frame_id) == (1, 2, 3)
    assert len(first.frame.picture) == I420_BYTES
    assert second.detail == "frame 2: frame 3 arrived before the engine was free"
    drop = second.dropped()
    assert (drop.frame_id, drop.reason, drop.detail) == (2, DropReason.SUPERSEDED, second.detail)


def test_broken_frames_are_never_estimated() -> None:
    protocol = opened(ESTIMATING)
    protocol.receive_frame(frame(1, b"short"), 0)
    protocol.receive_frame(frame(2), 0)
    entries = list(iter(protocol.next_entry, None))
    assert [type(entry) for entry in entries] == [DropEntry, FrameEntry]


def test_the_config_of_the_superseded_frame_decides() -> None:
    protocol = opened(ESTIMATING)
    protocol.receive_frame(frame(1), 0)
    protocol.receive_config(RequestedConfig(width=64, height=36))
    protocol.receive_frame(frame(2), 0)
    protocol.receive_frame(frame(3), 0)
    kinds = [type(entry) for entry in iter(protocol.next_entry, None)]
    assert kinds == [EstimateEntry, ConfigEntry, DropEntry, FrameEntry]


def test_frames_sent_under_every_are_kept_from_a_newer_config_too() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, policy=FramePolicy.EVERY, estimates=Estimates.SUPERSEDED))
    protocol.receive_frame(frame(1), 0)
    protocol.receive_frame(frame(2), 0)
    protocol.receive_config(CONFIG)
    for frame_id in (3, 4):
        protocol.receive_frame(frame(frame_id), 0)
    assert protocol.waiting_frames == 3
    kinds = [type(entry) for entry in iter(protocol.next_entry, None)]
    assert kinds == [FrameEntry, FrameEntry, ConfigEntry, DropEntry, FrameEntry]
    assert protocol.waiting_frames == 0


def test_only_so_many_pictures_wait_for_an_estimate_and_the_oldest_gives_way() -> None:
    protocol = opened(ESTIMATING)
    count = ESTIMATES_WAITING + 3
    for frame_id in range(1, count + 1):
        protocol.receive_frame(frame(frame_id), 0)
    kinds = [type(entry) for entry in iter(protocol.next_entry, None)]
    assert kinds == [DropEntry] * 2 + [EstimateEntry] * ESTIMATES_WAITING + [FrameEntry]


def test_estimates_cannot_keep_the_network_from_its_frames() -> None:
    """An estimate as slow as the frames are fast: there is always another to make before the newest frame."""
    protocol = opened(ESTIMATING)
    protocol.receive_frame(frame(1), 0)
    protocol.receive_frame(frame(2), 0)
    for frame_id in range(3, 3 + ESTIMATES_IN_A_ROW):
        assert isinstance(protocol.next_entry(), EstimateEntry)
        protocol.receive_frame(frame(frame_id), 0)
    drop = protocol.next_entry()
    assert isinstance(drop, DropEntry)
    assert (drop.frame_id, drop.reason) == (ESTIMATES_IN_A_ROW + 1, DropReason.SUPERSEDED)
    assert isinstance(protocol.next_entry(), FrameEntry)
    # And from then on there may be estimates again.
    for frame_id in range(100, 102):
        protocol.receive_frame(frame(frame_id), 0)
    assert isinstance(protocol.next_entry(), EstimateEntry)


def test_the_contract_states_how_many_are_estimated() -> None:
    contract = " ".join(line.strip(" /") for line in PROTO.read_text().splitlines())
    promise = (
        f"at most {ESTIMATES_WAITING} wait for it, and at most {ESTIMATES_IN_A_ROW} are estimated between two masks"
    )
    assert promise in contract


def test_every_holds_the_client_back_instead_of_dropping() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, policy=FramePolicy.EVERY))
    for frame_id in range(1, EVERY_WAITING + 1):
        assert protocol.wants_input
        protocol.receive_frame(frame(frame_id), 0)
    assert not protocol.wants_input
    assert isinstance(protocol.next_entry(), FrameEntry)
    assert protocol.wants_input


def test_a_flood_is_held_back_before_it_fills_the_memory() -> None:
    protocol = opened()
    frame_id = 0
    while protocol.wants_input:
        frame_id += 1
        protocol.receive_frame(frame(frame_id, b"broken"), 0)
    assert frame_id == BACKLOG_LIMIT


def test_a_later_config_replaces_the_earlier_as_a_whole_and_in_its_place() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, fusion=TemporalFusion.LOW, rotation=Rotation.DEG_90))
    protocol.receive_frame(frame(1), 0)
    protocol.receive_config(RequestedConfig(model="large", width=32, height=36))
    protocol.receive_frame(frame(2, bytes(32 * 36 * 3 // 2)), 0)
    first, config, second = iter(protocol.next_entry, None)
    # Not FrameEntry: under NEWEST the second frame took the first one's place.
    assert isinstance(first, DropEntry)
    assert isinstance(config, ConfigEntry)
    assert isinstance(second, FrameEntry)
    assert set(config.resets) == {ResetReason.MODEL, ResetReason.ROTATION, ResetReason.SIZE}
    assert config.config.fusion is TemporalFusion.HIGH, "left out in the second config: its default, not the first's"
    assert (second.size, second.config.model) == ((32, 36), "large")


def test_another_layer_of_the_same_shape_resets_nothing() -> None:
    protocol = opened()
    protocol.receive_config(RequestedConfig(model="medium", width=32, height=18))
    entry = protocol.next_entry()
    assert isinstance(entry, ConfigEntry)
    assert entry.resets == ()


def test_a_frames_own_size_rotation_and_mirror_hold_for_it_alone() -> None:
    protocol = opened(RequestedConfig(width=64, height=36, policy=FramePolicy.EVERY))
    protocol.receive_frame(
        frame(1, bytes(32 * 18 * 3 // 2), width=32, height=18, rotation=Rotation.DEG_270, mirrored=True), 0
    )
    protocol.receive_frame(frame(2), 0)
    own, plain = iter(protocol.next_entry, None)
    assert isinstance(own, FrameEntry)
    assert isinstance(plain, FrameEntry)
    assert (own.size, own.rotation, own.mirrored) == ((32, 18), Rotation.DEG_270, True)
    assert (plain.size, plain.rotation, plain.mirrored) == ((64, 36), Rotation.DEG_0, False)


def test_what_was_accepted_is_answered_after_the_client_half_closed() -> None:
    protocol = opened()
    protocol.receive_frame(frame(1), 0)
    protocol.close_input()
    assert protocol.state is State.CLOSED
    assert not protocol.finished
    assert isinstance(protocol.next_entry(), FrameEntry)
    assert protocol.finished


def test_a_drain_notice_stands_in_its_place_among_the_answers() -> None:
    protocol = opened()
    protocol.receive_frame(frame(1), 0)
    protocol.notify(NoticeReason.DRAINING, 20.0)
    protocol.receive_frame(frame(2, b"broken"), 0)
    kinds = [type(entry) for entry in iter(protocol.next_entry, None)]
    assert kinds == [FrameEntry, NoticeEntry, DropEntry]
