"""The few HTTP/2 frames that a gRPC call needs (RFC 9113, RFC 7541), as bytes: for clients that must cost nothing.

A grpc channel for each of some hundred connections a second would take more CPU than the server that they disturb.
"""

from collections.abc import Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
ACK = 0x1
_END_HEADERS = 0x4
_CANCEL = 0x8
#: What a peer may send on a stream before it is told more, in bytes (RFC 9113, section 6.9.2).
FIRST_WINDOW = 65_535


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame, ready to be sent."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


#: What a client says first.
HELLO = PREFACE + frame(SETTINGS, 0, 0)


def grpc_call(authority: str, path: str, stream: int = 1) -> bytes:
    """The request headers of a gRPC call, nothing of them indexed, so that connections share no state."""

    def literal(name: bytes, value: str) -> bytes:
        text = value.encode()
        if len(text) > 126:
            raise ValueError(f"{value!r} has {len(text)} bytes, headers here have at most 126")
        return name + bytes((len(text),)) + text

    # :method POST and :scheme http of the static table; :path, :authority and content-type by their names in it.
    block = b"\x83\x86" + literal(b"\x04", path) + literal(b"\x01", authority)
    block += literal(b"\x0f\x10", "application/grpc") + literal(b"\x00\x02te", "trailers")
    return frame(HEADERS, _END_HEADERS, stream, block)


def grpc_message(message: bytes, stream: int = 1) -> bytes:
    """One message of a call that goes on."""
    return frame(DATA, 0, stream, b"\x00" + len(message).to_bytes(4, "big") + message)


def cancel(stream: int = 1) -> bytes:
    """The end of a call that nobody waits for any more."""
    return frame(RST_STREAM, 0, stream, _CANCEL.to_bytes(4, "big"))


class FrameReader:
    """Cuts what comes from a socket into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole with these bytes."""
        self._rest += data
        while len(self._rest) >= 9:
            end = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < end:
                return
            head, payload, self._rest = self._rest[:9], self._rest[9:end], self._rest[end:]
            yield Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFF_FFFF, payload)


def reply(received: Frame) -> bytes:
    """What a peer must answer at once: settings and pings; nothing to all else."""
    if received.kind in (SETTINGS, PING) and not received.flags & ACK:
        return frame(received.kind, ACK, 0, received.payload if received.kind == PING else b"")
    return b""
