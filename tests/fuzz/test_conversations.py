"""Random conversations with the state machine: accepted, or refused with a documented error; bounded, in order."""

import dataclasses
import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.frames import PACKED, PixelFormat, PlaneLayout, view_frame
from humanseg.masks import MaskEncoding
from humanseg.options import ColorMatrix, ColorRange, Estimates, FramePolicy, People, TemporalFusion
from humanseg.vision.composite_planes import Blur
from humanseg.vision.orientation import Rotation
from service.call_errors import ProtocolViolation
from service.compositing import BackgroundImage, RequestedComposite, Transparent
from service.stream_config import RequestedConfig
from service.stream_protocol import (
    BACKLOG_LIMIT,
    ESTIMATES_IN_A_ROW,
    ESTIMATES_WAITING,
    EVERY_WAITING,
    ConfigEntry,
    DegradeEntry,
    DropEntry,
    Entry,
    EstimateEntry,
    FrameEntry,
    NoticeReason,
    ReceivedFrame,
    State,
    StreamProtocol,
)
from unit.service.test_stream_protocol import LIMITS, Models

IMAGE_IDS = st.sampled_from(["wall", "sea", "hill", "sky", "one more", "", "\n", "x" * 65])
IMAGES = st.builds(BackgroundImage, IMAGE_IDS, st.just(np.zeros((2, 2, 3), np.uint8)))
COMPOSITES = st.builds(
    RequestedComposite,
    background=st.one_of(
        st.none(),
        st.builds(Blur, st.floats()),
        st.tuples(*[st.integers(0, 300)] * 3),
        IMAGE_IDS,
        st.builds(Transparent),
    ),
    picture_format=st.sampled_from([None, *PixelFormat]),
    jpeg_quality=st.sampled_from([0, 0, 80, 101]),
    softness_percent=st.sampled_from([0, 0, 1, 2**32 - 1]),
    spread_ratio=st.one_of(st.just(0.0), st.floats()),
    light_wrap_percent=st.sampled_from([0, 0, 1, 2**32 - 1]),
)
SIDES = st.sampled_from([0, 1, 2, 3, 8, 4096, 4097, 2**32 - 1])
#: Mostly planes that cannot be; of an I420 picture of 2x2 in 6 to 12 bytes some can.
LAYOUTS = st.one_of(
    st.just(PACKED),
    st.sampled_from(
        [[(0, 2), (4, 1), (5, 1)], [(0, 3), (6, 1), (5, 9)], [(2, 2), (0, 1), (1, 1)], [(0, 2), (4, 2)]]
    ).map(lambda pairs: tuple(PlaneLayout(*pair) for pair in pairs)),
    st.lists(
        st.builds(PlaneLayout, st.sampled_from([0, 1, 4, 5, 2**64 - 1]), st.sampled_from([0, 1, 2, 3, 6, 2**32 - 1])),
        max_size=4,
    ).map(tuple),
)
CONFIGS = st.builds(
    RequestedConfig,
    model=st.sampled_from(["", "medium", "large", "huge", "\x00"]),
    width=SIDES,
    height=SIDES,
    pixel_format=st.sampled_from([None, *PixelFormat]),
    rotation=st.sampled_from([None, *Rotation]),
    mirrored=st.booleans(),
    fusion=st.sampled_from([None, *TemporalFusion]),
    encoding=st.sampled_from([None, *MaskEncoding]),
    mask_width=SIDES,
    mask_height=SIDES,
    policy=st.sampled_from([None, *FramePolicy]),
    label=st.text(max_size=70),
    estimates=st.sampled_from([None, *Estimates]),
    people=st.sampled_from([None, *People]),
    frame_deadline_ns=st.one_of(st.none(), st.integers(-(2**63), 2**63)),
    composite=st.none() | COMPOSITES,
    layout=LAYOUTS,
    color_matrix=st.sampled_from([None, None, *ColorMatrix]),
    color_range=st.sampled_from([None, None, *ColorRange]),
)
GOOD_CONFIGS = st.builds(
    RequestedConfig,
    width=st.just(2),
    height=st.just(2),
    policy=st.sampled_from([None, *FramePolicy]),
    estimates=st.sampled_from([None, *Estimates]),
    layout=st.sampled_from([PACKED, (PlaneLayout(0, 2), PlaneLayout(4, 1), PlaneLayout(5, 1))]),
    color_matrix=st.sampled_from([None, *ColorMatrix]),
    color_range=st.sampled_from([None, *ColorRange]),
)
GOOD_COMPOSITES = st.builds(
    RequestedConfig,
    width=st.just(2),
    height=st.just(2),
    composite=st.builds(RequestedComposite, st.sampled_from([Blur(), (1, 2, 3), Transparent(), "wall"])),
)
FRAMES = st.builds(
    ReceivedFrame,
    frame_id=st.integers(0, 2**64 - 1),
    capture_time_us=st.integers(-(2**63), 2**63 - 1),
    picture=st.sampled_from([b"", bytes(6), bytes(12), bytes(7)]),
    width=SIDES,
    height=SIDES,
    rotation=st.sampled_from([None, *Rotation]),
    mirrored=st.sampled_from([None, True, False]),
    unknown_field=st.sampled_from(["", "", "rotation: value 9 is not known"]),
    layout=LAYOUTS,
)
GROWING_FRAMES = st.builds(
    ReceivedFrame,
    frame_id=st.just(-1),  # replaced by the next id
    capture_time_us=st.integers(0, 10),
    picture=st.sampled_from([bytes(6), bytes(6), bytes(12), b"x"]),
    layout=LAYOUTS,
)
STEPS = st.lists(
    st.one_of(
        CONFIGS,
        GOOD_CONFIGS,
        GOOD_COMPOSITES,
        IMAGES,
        FRAMES,
        GROWING_FRAMES,
        GROWING_FRAMES,
        st.sampled_from(["take", "drain", "close", "degrade", "restore"]),
    ),
    max_size=40,
)


def assert_visible(frame: FrameEntry) -> None:
    """What was accepted lies within its bytes: nothing that is left to check is found out at work."""
    pixel_format, color = frame.config.pixel_format, frame.config.color
    assert isinstance(frame.picture, bytes)
    if pixel_format.compressed:
        assert frame.layout == PACKED
    else:
        view_frame(frame.picture, pixel_format, frame.size, layout=frame.layout, color=color)


@settings(max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "300")), deadline=None)
@given(st.booleans(), STEPS)
def test_any_conversation_ends_well(
    open_first: bool, steps: list[RequestedConfig | ReceivedFrame | BackgroundImage | str]
) -> None:
    protocol = StreamProtocol(Models(), LIMITS)
    accepted: list[int] = []
    answered: list[int] = []
    next_id = 0
    configs_due = 0
    estimates_in_a_row = 0
    was_degraded = False

    def take() -> Entry | None:
        nonlocal configs_due, estimates_in_a_row
        entry = protocol.next_entry()
        if isinstance(entry, EstimateEntry):
            answered.append(entry.frame.frame_id)
            asked_for = entry.frame.config.estimates is Estimates.SUPERSEDED
            assert asked_for or (entry.is_skipped and was_degraded), "nobody asked for it"
            assert entry.frame.config.policy is FramePolicy.NEWEST
            assert entry.is_skipped or entry.frame.config.composite is None, "no picture is made of an estimate"
            estimates_in_a_row += 1
            assert estimates_in_a_row <= ESTIMATES_IN_A_ROW
        elif isinstance(entry, FrameEntry | DropEntry):
            answered.append(entry.frame_id)
            if isinstance(entry, FrameEntry):
                assert_visible(entry)
            estimates_in_a_row = 0 if isinstance(entry, FrameEntry) else estimates_in_a_row
        elif isinstance(entry, ConfigEntry):
            configs_due -= 1
        return entry

    violated = False
    for step in [RequestedConfig(width=2, height=2), *steps] if open_first else steps:
        if step == "take":
            take()
        elif step == "drain":
            protocol.notify(NoticeReason.MAX_AGE, 1.0)
        elif step in ("degrade", "restore"):
            was_degraded = was_degraded or step == "degrade"
            protocol.degrade(DegradeEntry(step == "degrade", 1, "medium", every_second=step == "degrade"))
        elif step == "close":
            protocol.close_input()
        elif protocol.state is not State.CLOSED and protocol.wants_input:
            try:
                if isinstance(step, RequestedConfig):
                    protocol.receive_config(step)
                    configs_due += 1
                elif isinstance(step, BackgroundImage):
                    protocol.receive_image(step)
                elif isinstance(step, ReceivedFrame):
                    sent = step
                    if step.frame_id < 0:
                        sent = dataclasses.replace(step, frame_id=next_id)
                    protocol.receive_frame(sent, 0)
                    accepted.append(sent.frame_id)
                    next_id = sent.frame_id + 1
            except ProtocolViolation as error:
                assert str(error)
                assert error.fields or error.metadata
                violated = True
                break
        assert protocol.waiting_frames <= EVERY_WAITING
    if violated:
        assert protocol.finished
        return
    protocol.close_input()
    left = list(iter(take, None))
    assert sum(isinstance(entry, EstimateEntry) for entry in left) <= ESTIMATES_WAITING, "each holds a picture"
    assert protocol.finished
    assert answered == accepted, "every frame exactly one answer, in the order sent"
    assert accepted == sorted(set(accepted))
    assert configs_due == 0
    assert len(accepted) <= BACKLOG_LIMIT
