"""The short way past protobuf means what protobuf means, for every sequence of bytes."""

import os

from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from humanseg.v1 import segmentation_pb2 as pb
from service.wire import CutRequest, CutResponse, cut_request, join_response

EXAMPLES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "400"))

UINT32 = st.integers(0, 2**32 - 1)
PLANES = st.lists(st.builds(pb.PlaneLayout, offset_bytes=st.integers(0, 2**64 - 1), stride_bytes=UINT32), max_size=4)
FRAMES = st.builds(
    pb.Frame,
    frame_id=st.integers(0, 2**64 - 1),
    capture_time_us=st.integers(-(2**63), 2**63 - 1),
    picture=st.binary(max_size=300),
    width=UINT32,
    height=UINT32,
    rotation=st.integers(0, 5),
    mirrored=st.none() | st.booleans(),
    planes=PLANES,
)
CONFIGS = st.builds(pb.SessionConfig, model=st.text(max_size=5), width=UINT32, session_label=st.text(max_size=5))
REQUESTS = st.builds(pb.StreamSegmentRequest, frame=FRAMES) | st.builds(pb.StreamSegmentRequest, config=CONFIGS)


def length_delimited(number: int, content: bytes) -> bytes:
    assert number < 16
    assert len(content) < 128
    return bytes((number << 3 | 2, len(content))) + content


#: A record of a frame, plain or odd: fields twice, of a wrong kind, unknown, grouped, cut off.
PIECES = st.one_of(
    st.binary(max_size=3),
    st.builds(length_delimited, st.integers(1, 15), st.binary(max_size=20)),
    st.builds(lambda number, value: bytes((number << 3, value)), st.integers(1, 15), st.integers(0, 127)),
    st.builds(lambda number: bytes((number << 3 | 5, 1, 2, 3, 4)), st.integers(1, 15)),
    st.builds(lambda number: bytes((number << 3 | 1, *range(8))), st.integers(1, 15)),
    st.builds(lambda number: bytes((number << 3 | 3, number << 3 | 4)), st.integers(1, 15)),
    st.just(b"\x98\x06\x01"),  # field 99, whose tag takes two bytes
    # Field 60, `planes`: whole, as a number, as a group, cut off, its tag in more bytes than it needs. Field 51, whose
    # tag begins as the picture's does.
    st.builds(lambda plane: b"\xe2\x03" + bytes((len(plane),)) + plane, st.binary(max_size=12)),
    st.builds(
        lambda plane: b"\xe2\x03" + bytes((plane.ByteSize(),)) + plane.SerializeToString(),
        PLANES.map(lambda planes: planes[0] if planes else pb.PlaneLayout()),
    ),
    st.sampled_from(
        [
            b"\x9a\x03\x01x",
            b"\xe0\x03\x07",
            b"\xe3\x03\xe4\x03",
            b"\xe2\x03\x05x",
            b"\xe2",
            b"\xe2\x83\x00\x00",
            b"\x9a\x00\x01x",
        ]
    ),
    st.just(b"\x08" + b"\xff" * 9 + b"\x01"),
    st.just(b"\x08" + b"\xff" * 10 + b"\x01"),
    st.just(b"\x1a\x81\x80\x80\x80\x80\x00x"),  # a length of six bytes
)
ODD_FRAMES = st.lists(PIECES, max_size=5).map(b"".join).filter(lambda frame: len(frame) < 128)
ODD_REQUESTS = st.builds(lambda frame, rest: length_delimited(2, frame) + rest, ODD_FRAMES, st.just(b"") | PIECES)


def whole(cut: CutRequest) -> pb.StreamSegmentRequest:
    assert not cut.message.frame.picture
    message = pb.StreamSegmentRequest.FromString(cut.message.SerializeToString())
    if message.WhichOneof("message") == "frame":
        message.frame.picture = bytes(cut.picture)
    else:
        assert not cut.picture
    return message


@settings(max_examples=EXAMPLES, deadline=None)
@given(REQUESTS.map(lambda request: request.SerializeToString()) | ODD_REQUESTS | st.binary(max_size=40))
@example(length_delimited(2, length_delimited(3, b"one") + length_delimited(3, b"two")))
@example(length_delimited(2, length_delimited(3, b"picture")) + length_delimited(2, b"\x08\x07"))
@example(length_delimited(2, length_delimited(3, b"picture")) + length_delimited(1, b""))
@example(length_delimited(2, length_delimited(3, b"picture")[:-1]))
@example(length_delimited(2, length_delimited(3, b"")))
@example(b"\x12\x05\x1a\x03abc"[:-1])
@example(length_delimited(2, b"\x9a\x03\x01x"))
@example(length_delimited(2, b"\x9a\x00\x01x"))
@example(length_delimited(2, b"\xe2\x03\x02\x10\x07" + length_delimited(3, b"picture")))
def test_a_cut_request_is_what_protobuf_reads(data: bytes) -> None:
    try:
        expected = pb.StreamSegmentRequest.FromString(data)
    except DecodeError:
        expected = None
    try:
        cut = cut_request(data)
    except DecodeError:
        assert expected is None
        return
    assert expected is not None
    assert whole(cut) == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(FRAMES)
def test_the_picture_of_a_plain_request_is_not_copied(frame: pb.Frame) -> None:
    data = pb.StreamSegmentRequest(frame=frame).SerializeToString()
    cut = cut_request(data)
    assert bytes(cut.picture) == frame.picture
    if frame.picture:
        assert isinstance(cut.picture, memoryview)
        assert cut.picture.obj is data


RESULTS = st.builds(
    pb.FrameResult,
    frame_id=st.integers(0, 2**64 - 1),
    outcome=st.integers(0, 2),
    mask_width=UINT32,
    drop_detail=st.text(max_size=200),
    times=st.builds(pb.StageTimes, total_us=UINT32),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(RESULTS, st.binary(max_size=300) | st.integers(0, 70_000).map(bytes), st.booleans())
def test_a_joined_response_is_read_as_if_protobuf_had_written_it(
    result: pb.FrameResult, mask: bytes, view: bool
) -> None:
    data = join_response(CutResponse(pb.StreamSegmentResponse(result=result), memoryview(mask) if view else mask))
    result.mask = mask
    assert pb.StreamSegmentResponse.FromString(data) == pb.StreamSegmentResponse(result=result)


@settings(max_examples=EXAMPLES, deadline=None)
@given(RESULTS, st.binary(max_size=300) | st.integers(0, 70_000).map(bytes))
def test_a_finished_picture_is_joined_as_protobuf_would_write_it(result: pb.FrameResult, picture: bytes) -> None:
    result.outcome = pb.FRAME_OUTCOME_PICTURE
    data = join_response(CutResponse(pb.StreamSegmentResponse(result=result), picture))
    result.picture = picture
    assert pb.StreamSegmentResponse.FromString(data) == pb.StreamSegmentResponse(result=result)


@given(st.integers(0, 10**6))
def test_a_response_without_a_mask_is_protobufs_own(milliseconds: int) -> None:
    notice = pb.Notice(reason=pb.NOTICE_REASON_DRAINING)
    notice.time_left.FromMilliseconds(milliseconds)
    response = pb.StreamSegmentResponse(notice=notice)
    assert join_response(CutResponse(response)) == response.SerializeToString()
