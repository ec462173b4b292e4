"""What a call can be refused or ended for, as the contract names it: reason, text, fields at fault."""

import enum
from collections.abc import Sequence


class Reason(enum.Enum):
    """Why a stream or call ends with an error; names are those of the proto's ``ErrorReason``."""

    CONFIG_MISSING = enum.auto()
    CONFIG_TIMEOUT = enum.auto()
    CONFIG_INVALID = enum.auto()
    MODEL_UNKNOWN = enum.auto()
    FRAME_ID_NOT_INCREASING = enum.auto()
    MESSAGE_EMPTY = enum.auto()
    PICTURE_INVALID = enum.auto()
    TOO_MANY_SESSIONS = enum.auto()
    IDLE_TIMEOUT = enum.auto()
    CLIENT_NOT_READING = enum.auto()
    DRAINING = enum.auto()
    INTERNAL = enum.auto()
    LIMIT_EXCEEDED = enum.auto()
    OVERLOADED = enum.auto()
    MAX_AGE = enum.auto()
    UNAUTHENTICATED = enum.auto()
    TENANT_QUOTA = enum.auto()
    SHARED_MEMORY_REFUSED = enum.auto()


class CallError(Exception):
    """A call must end with an error status.

    Attributes:
        reason: decides the status code (`service.status`).
        fields: (path, description) of the offending fields of the request.
        metadata: figures for the client, units in the keys.
        quota_subject: whose quota is used up, where one is.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        metadata: dict[str, str] | None = None,
        quota_subject: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = tuple(fields)
        self.metadata = metadata or {}
        self.quota_subject = quota_subject


class ProtocolViolation(CallError):
    """The client broke the rules of the stream; nothing more is answered."""


def invalid(reason: Reason, summary: str, fields: Sequence[tuple[str, str]]) -> CallError:
    """An error that names each offending field."""
    return CallError(reason, f"{summary}: " + "; ".join(f"{path}: {text}" for path, text in fields), fields=fields)
