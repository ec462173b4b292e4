"""Frames out of messages and masks into them with one copy less each way; the bytes on the wire stay protobuf's own.

protobuf copies a bytes field when it parses and again when the field is read, and the same the other way round. Here
the one large field is cut out of the message as a view, and put in between its neighbors in one join; everything else
is left to protobuf (encoding: https://protobuf.dev/programming-guides/encoding/). A message that is not of the plain
form that every generated client writes goes to protobuf as a whole, which decides what it means.
"""

from dataclasses import dataclass

from humanseg.v1 import segmentation_pb2 as pb

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
#: protobuf refuses longer ones, whatever their value.
_LARGEST_VARINT_BYTES, _LARGEST_LENGTH_BYTES = 10, 5
#: Of a kind that no field has.
_NO_TAG = 7


def _tag(number: int) -> int:
    return number << 3 | _LENGTH_DELIMITED


_FRAME = _tag(pb.StreamSegmentRequest.DESCRIPTOR.fields_by_name["frame"].number)
_PICTURE = _tag(pb.Frame.DESCRIPTOR.fields_by_name["picture"].number)
_RESULT = _tag(pb.StreamSegmentResponse.DESCRIPTOR.fields_by_name["result"].number)
_MASK = _tag(pb.FrameResult.DESCRIPTOR.fields_by_name["mask"].number)
_FINISHED = _tag(pb.FrameResult.DESCRIPTOR.fields_by_name["picture"].number)


@dataclass(frozen=True, slots=True)
class CutRequest:
    """A request whose picture, if it has one, stands beside it."""

    message: pb.StreamSegmentRequest
    """Complete but for ``frame.picture``, which is empty."""
    picture: bytes | memoryview
    """A view keeps the whole message alive."""


@dataclass(frozen=True, slots=True)
class CutResponse:
    """A response whose mask or finished picture, if it has one, stands beside it."""

    message: pb.StreamSegmentResponse
    mask: bytes | memoryview = b""
    """The mask; the picture where the message's outcome is PICTURE."""


def cut_request(data: bytes) -> CutRequest:
    """Parse a serialized ``StreamSegmentRequest``, the picture as a view of ``data``.

    Raises:
        google.protobuf.message.DecodeError: it is not one.
    """
    cut = _find_picture(data)
    if cut is None:
        message = pb.StreamSegmentRequest.FromString(data)
        picture = b""
        if message.WhichOneof("message") == "frame":
            picture = message.frame.picture
            message.frame.ClearField("picture")
        return CutRequest(message, picture)
    first, tag, start, end = cut
    message = pb.StreamSegmentRequest()
    message.frame.MergeFromString(data[first:tag] + data[end:])
    return CutRequest(message, memoryview(data)[start:end])


def join_response(response: CutResponse) -> bytes:
    """Serialize a response, its mask last: the order of fields means nothing to a reader."""
    if not response.mask:
        return response.message.SerializeToString()
    if response.message.WhichOneof("message") != "result":
        raise ValueError("a mask belongs to a result, and this response holds none")
    result = response.message.result.SerializeToString()
    is_picture = response.message.result.outcome == pb.FRAME_OUTCOME_PICTURE
    mask_head = _varint(_FINISHED if is_picture else _MASK) + _varint(len(response.mask))
    head = bytes((_RESULT,)) + _varint(len(result) + len(mask_head) + len(response.mask))
    return b"".join((head, result, mask_head, response.mask))


def _find_picture(data: bytes) -> tuple[int, int, int, int] | None:
    """(begin of the frame, the picture's tag, its first byte, behind its last) of a request of the plain form.

    None for any other: no frame or more beside it, no picture or several, a field that ends behind the frame, groups,
    field numbers that need more than two bytes, or are written in more than they need.
    """
    if not data or data[0] != _FRAME:
        return None
    length, first = _read_varint(data, 1, _LARGEST_LENGTH_BYTES)
    if length is None or first + length != len(data):
        return None
    found: tuple[int, int, int, int] | None = None
    position = first
    while position < len(data):
        tag_at = position
        tag, position = _read_tag(data, position)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, position = _read_varint(data, position, _LARGEST_LENGTH_BYTES)
            if length is None:
                return None
            if tag == _PICTURE:
                if found is not None:
                    return None
                found = (first, tag_at, position, position + length)
            position += length
        elif kind == _VARINT:
            value, position = _read_varint(data, position, _LARGEST_VARINT_BYTES)
            if value is None:
                return None
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            return None
    return found if position == len(data) else None


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    """(tag, position behind it) of one or two bytes; `_NO_TAG` for any other, and for field number 0."""
    tag = data[position]
    position += 1
    if tag >= 0x80:
        if position >= len(data) or not 0 < data[position] < 0x80:
            return _NO_TAG, position
        tag = tag & 0x7F | data[position] << 7
        position += 1
    return (tag if tag >= 0x08 else _NO_TAG), position


def _read_varint(data: bytes, position: int, most_bytes: int) -> tuple[int | None, int]:
    """(value, position behind it); the value is None if it ends too late or not at all."""
    value = 0
    for shift in range(0, 7 * most_bytes, 7):
        if position >= len(data):
            return None, position
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return None, position


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
