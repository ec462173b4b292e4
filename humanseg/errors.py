"""What can go wrong with a call, made from the gRPC status and its details.

SegmentationError                  any call that failed; catch at whatever height suits
├── InvalidRequestError            the request cannot be served as it is: change it
│   ├── UnknownModelError          no such model on this server; ``metadata["served_models"]`` lists those there are
│   ├── LimitExceededError         larger than the server takes; ``metadata`` names the limit and its value
│   ├── SharedMemoryRefusedError   no shared memory for this client: send pictures in the messages
│   ├── PictureError               the still picture cannot be read
│   └── ProtocolError              the rules of a stream were broken (config missing, ids that do not grow)
├── AccessDeniedError              not allowed to: credentials missing or refused
├── OverloadedError                no room for now: try again after ``retry_after_s``
├── ClientTooSlowError             the answers were not read in time, and the server ended the stream
├── ServerUnavailableError         no server there, or the connection broke
│   ├── ServerDrainingError        this server stops: a new stream reaches another one
│   └── StreamAgedError            the stream has reached its greatest age: a new one is welcome at once
├── DeadlineError                  something took longer than it was allowed to
├── CallCancelledError             the call was given up on this side, or by a proxy
├── FrameDroppedError              a frame that had to have a mask has none (`SegmentationClient.masks` only)
└── ServerFaultError               a fault of the server; ``metadata["request_id"]`` finds it in its log

The codes and reasons are the contract's (``ErrorReason`` in the proto). A reason that this release does not know
falls back to the class of its status code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "humanseg.v1"
_DETAILS_KEY = "grpc-status-details-bin"
#: What gRPC says, under INTERNAL, where a proxy resets a stream because the server behind it has gone: Envoy
#: does. Our server's own INTERNAL has a reason.
_RESET_BY_PROXY = "RST_STREAM with error code 2"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that cannot be accepted."""

    field: str
    description: str


class SegmentationError(Exception):
    """A call that failed.

    Attributes:
        message: what is wrong, for people.
        code: the gRPC status code; UNAVAILABLE also where a proxy resets the stream because its server has gone, which
            gRPC calls INTERNAL.
        reason: name out of the contract's ``ErrorReason`` without its prefix; empty if the server gave none.
        metadata: figures that belong to the reason, units in the keys.
        field_violations: the offending fields of the request.
        retry_after_s: after how many seconds the server suggests another try; None if it suggests none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Iterable[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later, without any change to it."""
        return self.retry_after_s is not None or self.code is grpc.StatusCode.UNAVAILABLE

    def __str__(self) -> str:
        return f"{self.code.name}{f' ({self.reason})' if self.reason else ''}: {self.message}"


class InvalidRequestError(SegmentationError):
    """The request cannot be served as it is."""


class UnknownModelError(InvalidRequestError):
    """No such model on this server."""


class LimitExceededError(InvalidRequestError):
    """Larger than the server takes."""


class SharedMemoryRefusedError(InvalidRequestError):
    """The server shares no memory with this client."""


class PictureError(InvalidRequestError):
    """The still picture cannot be read."""


class ProtocolError(InvalidRequestError):
    """The rules of a stream were broken."""


class AccessDeniedError(SegmentationError):
    """Credentials are missing or were refused."""


class OverloadedError(SegmentationError):
    """The server has no room for now."""


class ClientTooSlowError(SegmentationError):
    """The answers were not read in time."""


class ServerUnavailableError(SegmentationError):
    """There is no server, or the connection broke."""


class ServerDrainingError(ServerUnavailableError):
    """The server is about to stop."""


class StreamAgedError(ServerUnavailableError):
    """The stream has reached the greatest age that the server allows."""


class DeadlineError(SegmentationError):
    """Something took longer than it was allowed to."""


class CallCancelledError(SegmentationError):
    """The call was given up."""


class FrameDroppedError(SegmentationError):
    """A frame that had to have a mask has none; ``reason`` is a name out of ``DropReason``."""


class ServerFaultError(SegmentationError):
    """A fault of the server."""


_BY_REASON: dict[str, type[SegmentationError]] = {
    "CONFIG_MISSING": ProtocolError,
    "CONFIG_INVALID": InvalidRequestError,
    "MODEL_UNKNOWN": UnknownModelError,
    "FRAME_ID_NOT_INCREASING": ProtocolError,
    "MESSAGE_EMPTY": ProtocolError,
    "PICTURE_INVALID": PictureError,
    "TOO_MANY_SESSIONS": OverloadedError,
    "CONFIG_TIMEOUT": DeadlineError,
    "IDLE_TIMEOUT": DeadlineError,
    "CLIENT_NOT_READING": ClientTooSlowError,
    "DRAINING": ServerDrainingError,
    "MAX_AGE": StreamAgedError,
    "UNAUTHENTICATED": AccessDeniedError,
    "TENANT_QUOTA": OverloadedError,
    "INTERNAL": ServerFaultError,
    "LIMIT_EXCEEDED": LimitExceededError,
    "OVERLOADED": OverloadedError,
    "SHARED_MEMORY_REFUSED": SharedMemoryRefusedError,
}

_BY_CODE: dict[grpc.StatusCode, type[SegmentationError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: AccessDeniedError,
    grpc.StatusCode.PERMISSION_DENIED: AccessDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.INTERNAL: ServerFaultError,
    grpc.StatusCode.UNKNOWN: ServerFaultError,
    grpc.StatusCode.DATA_LOSS: ServerFaultError,
    grpc.StatusCode.UNIMPLEMENTED: ServerFaultError,
}


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a call ended, as gRPC says it; ``trailing`` are the pairs of the trailing metadata."""

    code: grpc.StatusCode
    message: str
    trailing: tuple[tuple[str, str | bytes], ...] = ()

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> "CallStatus":
        """The status that an exception of grpc.aio carries."""
        trailing = tuple(error.trailing_metadata() or ())
        return cls(error.code(), error.details() or "", trailing)


def error_from_status(status: CallStatus) -> SegmentationError:
    """The exception of a status that is not OK. Details that cannot be read are left out, never raised about."""
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    for packed in _read_details(status.trailing):
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        try:
            if packed.Unpack(info) and info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif packed.Unpack(bad):
                violations.extend(FieldViolation(item.field, item.description) for item in bad.field_violations)
            elif packed.Unpack(retry):
                retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        except (DecodeError, ValueError, OverflowError):
            # A proxy or a newer server may put anything there; the status itself is what counts.
            continue
    kind = _BY_REASON.get(reason) or _BY_CODE.get(status.code, SegmentationError)
    if kind is OverloadedError and not reason and "larger than max" in status.message:
        # gRPC's own limit on messages (ours, or the server's if it was not asked for its limits) says so in words only.
        kind = LimitExceededError
    code = status.code
    if kind is ServerFaultError and not reason and _RESET_BY_PROXY in status.message:
        kind, code = ServerUnavailableError, grpc.StatusCode.UNAVAILABLE
    return kind(
        status.message or f"the call failed with {status.code.name}",
        code=code,
        reason=reason,
        metadata=metadata,
        field_violations=violations,
        retry_after_s=retry_after_s,
    )


def _read_details(trailing: Iterable[tuple[str, str | bytes]]) -> Iterable[Any]:
    for key, value in trailing:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                details: Iterable[Any] = status_pb2.Status.FromString(value).details
                return details
            except DecodeError:
                return ()
    return ()
