"""Frames as bytes, cut apart again however they come; that a server understands them is tested in integration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.http2 import (
    ACK,
    DATA,
    HEADERS,
    HELLO,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Frame,
    FrameReader,
    cancel,
    frame,
    grpc_call,
    grpc_message,
    reply,
)

FRAMES = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=40)
)  # fmt: skip


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], step: int) -> None:
    wire = b"".join(frame(one.kind, one.flags, one.stream, one.payload) for one in frames)
    reader = FrameReader()
    seen = [found for begin in range(0, len(wire), step) for found in reader.feed(wire[begin : begin + step])]
    assert seen == frames


def test_a_call_is_headers_then_messages_then_perhaps_a_cancellation() -> None:
    wire = grpc_call("localhost:1", "/a.B/C", stream=3) + grpc_message(b"abc", stream=3) + cancel(3)
    headers, message, end = FrameReader().feed(wire)
    assert (headers.kind, headers.stream, message.kind, message.stream) == (HEADERS, 3, DATA, 3)
    assert b"/a.B/C" in headers.payload
    assert message.payload == b"\x00\x00\x00\x00\x03abc"
    assert end == Frame(RST_STREAM, 0, 3, b"\x00\x00\x00\x08")


def test_settings_and_pings_are_answered_and_answers_are_not() -> None:
    assert HELLO.startswith(PREFACE)
    assert reply(Frame(SETTINGS, 0, 0, b"123456")) == frame(SETTINGS, ACK, 0)
    assert reply(Frame(PING, 0, 0, b"12345678")) == frame(PING, ACK, 0, b"12345678")
    for quiet in (Frame(SETTINGS, ACK, 0, b""), Frame(PING, ACK, 0, b"12345678"), Frame(DATA, 0, 1, b"")):
        assert reply(quiet) == b""


def test_a_header_that_would_need_a_longer_length_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 126"):
        grpc_call("localhost:1", "/" + "a" * 126)
