"""The one table from errors to gRPC statuses: whose fault it was decides the code.

Every status carries ``google.rpc.Status`` with ErrorInfo (domain ``humanseg.v1``, reason from the proto's
``ErrorReason``); BadRequest, QuotaFailure and RetryInfo where they help. The text of an unexpected exception goes to
the log, never over the wire.
"""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service.call_errors import CallError, Reason

DOMAIN = "humanseg.v1"

#: Reason -> (code, seconds after which a retry makes sense; None: a retry of the same call is pointless).
CODES: dict[Reason, tuple[grpc.StatusCode, float | None]] = {
    Reason.CONFIG_MISSING: (grpc.StatusCode.FAILED_PRECONDITION, None),
    Reason.CONFIG_TIMEOUT: (grpc.StatusCode.DEADLINE_EXCEEDED, None),
    Reason.CONFIG_INVALID: (grpc.StatusCode.INVALID_ARGUMENT, None),
    Reason.MODEL_UNKNOWN: (grpc.StatusCode.NOT_FOUND, None),
    Reason.FRAME_ID_NOT_INCREASING: (grpc.StatusCode.INVALID_ARGUMENT, None),
    Reason.MESSAGE_EMPTY: (grpc.StatusCode.INVALID_ARGUMENT, None),
    Reason.PICTURE_INVALID: (grpc.StatusCode.INVALID_ARGUMENT, None),
    Reason.TOO_MANY_SESSIONS: (grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0),
    Reason.IDLE_TIMEOUT: (grpc.StatusCode.DEADLINE_EXCEEDED, None),
    Reason.CLIENT_NOT_READING: (grpc.StatusCode.RESOURCE_EXHAUSTED, 1.0),
    Reason.DRAINING: (grpc.StatusCode.UNAVAILABLE, 0.5),
    Reason.INTERNAL: (grpc.StatusCode.INTERNAL, None),
    Reason.LIMIT_EXCEEDED: (grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    Reason.OVERLOADED: (grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0),
    Reason.MAX_AGE: (grpc.StatusCode.UNAVAILABLE, 0.1),
    Reason.UNAUTHENTICATED: (grpc.StatusCode.UNAUTHENTICATED, None),
    Reason.TENANT_QUOTA: (grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0),
    Reason.SHARED_MEMORY_REFUSED: (grpc.StatusCode.FAILED_PRECONDITION, None),
}


def to_status(error: CallError) -> grpc.Status:
    """The gRPC status of an error, for ``context.abort_with_status``."""
    code, retry_after_s = CODES[error.reason]
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=path, description=text) for path, text in error.fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.quota_subject:
        violation = error_details_pb2.QuotaFailure.Violation(subject=error.quota_subject, description=str(error))
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [_pack(detail) for detail in details]
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=str(error), details=packed)
    )
    return status


def internal(request_id: str) -> CallError:
    """What the client sees of an unexpected exception: an id that finds it in the log, and nothing else."""
    message = f"the server failed on this call; its log has the reason under request_id {request_id}"
    return CallError(Reason.INTERNAL, message, metadata={"request_id": request_id})


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
