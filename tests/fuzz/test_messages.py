"""Bytes as they come off the wire, all the way into the state machine: accepted, or refused with a documented error."""

import os
import random

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from humanseg.v1 import segmentation_pb2 as pb
from service import converters
from service.call_errors import CallError
from service.status import CODES, to_status
from service.stream_protocol import DropEntry, FrameEntry, State, StreamProtocol
from service.wire import cut_request
from unit.service.test_stream_protocol import LIMITS, Models

#: Messages, in conversations of up to twelve. A short run in `make test`; `make fuzz` has 100,000.
CASES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "10000"))

#: None, those of I420 at 2x2, and those that cannot be.
PLANES = [
    [],
    [],
    [pb.PlaneLayout(offset_bytes=offset, stride_bytes=stride) for offset, stride in ((0, 2), (4, 1), (5, 1))],
    [pb.PlaneLayout(offset_bytes=2**64 - 1, stride_bytes=2**32 - 1)] * 3,
    [pb.PlaneLayout(stride_bytes=6)],
    [pb.PlaneLayout()] * 100,
]


def message(pick: random.Random, frame_id: int) -> bytes:
    """One that makes sense, most of the time."""
    if pick.random() < 0.2:
        blur = pb.Composite.Blur(radius_percent=pick.choice([0, 5, 99]))
        config = pb.SessionConfig(
            model=pick.choice(["", "medium", "large", "huge"]), width=pick.choice([2, 2, 2, 0, 2**32 - 1]), height=2,
            pixel_format=pick.choice([0, 1, 3, 5, 6]), frame_policy=pick.choice([0, 1, 2]),
            estimates=pick.choice([0, 1, 2]), session_label=pick.choice(["", "me", "\n"]),
            resume_token=pick.choice([b"", b"", b"token"]),
            resume_interval=Duration(seconds=pick.choice([0, 0, 1, -1, 2**62]), nanos=pick.choice([0, -5])),
            composite=pick.choice([None, None, pb.Composite(), pb.Composite(blur=blur)]),
            planes=pick.choice(PLANES) if pick.random() < 0.1 else [],
            color_matrix=pick.choice([0] * 20 + [1, 2, 3]), color_range=pick.choice([0] * 20 + [1, 2, 3]),
        )  # fmt: skip
        return pb.StreamSegmentRequest(config=config).SerializeToString()
    frame = pb.Frame(
        frame_id=frame_id, capture_time_us=pick.randint(-(2**63), 2**63 - 1), rotation=pick.choice([0, 0, 1, 4]),
        picture=pick.choice([bytes(6), bytes(6), bytes(12), b""]), width=pick.choice([0, 0, 2]),
        height=pick.choice([0, 0, 2]), planes=pick.choice(PLANES),
    )  # fmt: skip
    return pb.StreamSegmentRequest(frame=frame).SerializeToString()


def damaged(pick: random.Random, data: bytes) -> bytes:
    wounded = bytearray(data)
    for _ in range(pick.randint(1, 3)):
        at = pick.randrange(len(wounded) + 1)
        wounded[at : at + pick.randint(0, 4)] = pick.randbytes(pick.randint(0, 4))
    return bytes(wounded)


def converse(pick: random.Random, length: int) -> str:
    """What became of a conversation: how its input ended. Whatever comes, accepted frames are answered in order."""
    protocol = StreamProtocol(Models(), LIMITS)
    taken: list[int] = []
    given: list[int] = []

    def take() -> None:
        while (entry := protocol.next_entry()) is not None:
            if isinstance(entry, FrameEntry | DropEntry):
                given.append(entry.frame_id)

    for number in range(length):
        data = message(pick, number + 1)
        if pick.random() < 0.15:
            data = damaged(pick, data)
        try:
            request = cut_request(data)
            kind = request.message.WhichOneof("message")
            if kind == "frame":
                received = converters.received_frame(request.message.frame, request.picture)
                protocol.receive_frame(received, number)
                taken.append(received.frame_id)
            elif kind == "config":
                protocol.receive_config(converters.requested_config(request.message.config))
                if protocol.config is not None:
                    converters.config_message(protocol.config)  # what was accepted can be echoed
        except DecodeError:
            return "not a message"
        except CallError as error:
            assert error.reason in CODES
            assert str(error)
            to_status(error)
            return error.reason.name
        take() if pick.random() < 0.5 else None
    protocol.close_input()
    take()
    assert protocol.state is State.CLOSED
    assert len(given) <= len(taken)
    assert given == sorted(given)
    return "ended well"


def test_any_bytes_are_taken_or_refused_by_name() -> None:
    pick = random.Random(11)
    seen: dict[str, int] = {}
    messages = 0
    while messages < CASES:
        length = pick.randint(1, 12)
        messages += length
        end = converse(pick, length)
        seen[end] = seen.get(end, 0) + 1
    expected = {"ended well", "not a message", "CONFIG_MISSING", "CONFIG_INVALID", "MODEL_UNKNOWN"}
    assert expected <= set(seen), seen
