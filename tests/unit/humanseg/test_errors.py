import re

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from humanseg import errors
from humanseg.errors import CallStatus, SegmentationError, error_from_status
from humanseg.v1 import segmentation_pb2 as pb
from service.call_errors import Reason
from service.status import CODES


def status(code: grpc.StatusCode, message: str, *details: Message) -> CallStatus:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    content = status_pb2.Status(code=code.value[0], message=message, details=packed).SerializeToString()
    return CallStatus(code, message, (("other", "x"), ("grpc-status-details-bin", content)))


def info(reason: str, domain: str = "humanseg.v1", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_everything_the_server_says_is_kept() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="config.width", description="0; allowed are 1 to 4096"
    )
    error = error_from_status(
        status(
            grpc.StatusCode.INVALID_ARGUMENT,
            "config refused",
            info("CONFIG_INVALID", max_side_px="4096"),
            error_details_pb2.BadRequest(field_violations=[violation]),
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
        )
    )
    assert type(error) is errors.InvalidRequestError
    assert str(error) == "INVALID_ARGUMENT (CONFIG_INVALID): config refused"
    assert error.metadata == {"max_side_px": "4096"}
    assert [(item.field, item.description) for item in error.field_violations] == [
        ("config.width", "0; allowed are 1 to 4096")
    ]
    assert error.retry_after_s == 1.5
    assert error.retryable


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_of_the_server_has_a_class_of_its_meaning(reason: Reason) -> None:
    code, retry_after_s = CODES[reason]
    error = error_from_status(status(code, "text", info(reason.name)))
    assert error.reason == reason.name
    assert type(error) is not SegmentationError
    if retry_after_s is None and code is not grpc.StatusCode.INTERNAL:
        assert not error.retryable
    # Whose fault it is must not be turned round: what the client sent can only be an InvalidRequestError.
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        assert isinstance(error, errors.InvalidRequestError)


def test_every_reason_of_the_contract_is_known_here() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in pb.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert set(errors._BY_REASON) == names


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnavailableError),
        (grpc.StatusCode.NOT_FOUND, errors.InvalidRequestError),
        (grpc.StatusCode.PERMISSION_DENIED, errors.AccessDeniedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.ServerFaultError),
        (grpc.StatusCode.ABORTED, SegmentationError),
    ],
)
def test_without_a_known_reason_the_code_decides(code: grpc.StatusCode, kind: type[SegmentationError]) -> None:
    assert type(error_from_status(CallStatus(code, "text"))) is kind
    newer = error_from_status(status(code, "text", info("SOMETHING_NEW")))
    assert (type(newer), newer.reason) == (kind, "SOMETHING_NEW")
    foreign = error_from_status(status(code, "text", info("DRAINING", domain="proxy.example")))
    assert (type(foreign), foreign.reason) == (kind, "")


def test_grpcs_own_message_limit_is_a_limit_and_no_overload() -> None:
    error = error_from_status(
        CallStatus(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (70 vs. 50)")
    )
    assert type(error) is errors.LimitExceededError
    assert not error.retryable


def test_a_reset_by_a_proxy_whose_server_has_gone_is_no_fault_of_the_server() -> None:
    text = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"
    error = error_from_status(CallStatus(grpc.StatusCode.INTERNAL, text))
    assert (type(error), error.code) == (errors.ServerUnavailableError, grpc.StatusCode.UNAVAILABLE)
    assert error.retryable
    ours = error_from_status(status(grpc.StatusCode.INTERNAL, text, info("INTERNAL")))
    assert (type(ours), ours.code, ours.retryable) == (errors.ServerFaultError, grpc.StatusCode.INTERNAL, False)


def test_details_that_cannot_be_read_are_left_out() -> None:
    for content in (b"\xff\xff\xff", b""):
        error = error_from_status(CallStatus(grpc.StatusCode.UNAVAILABLE, "", (("grpc-status-details-bin", content),)))
        assert type(error) is errors.ServerUnavailableError
        assert error.message == "the call failed with UNAVAILABLE"
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff\xff")
    content = status_pb2.Status(code=14, details=[broken]).SerializeToString()
    error = error_from_status(CallStatus(grpc.StatusCode.UNAVAILABLE, "x", (("grpc-status-details-bin", content),)))
    assert (error.reason, error.message) == ("", "x")


def test_the_picture_of_the_tree_is_the_tree() -> None:
    names = re.findall(r"^[│├└─ ]*(\w+Error)  ", errors.__doc__ or "", re.MULTILINE)
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SegmentationError)
    }
    assert sorted(names) == sorted(classes)
