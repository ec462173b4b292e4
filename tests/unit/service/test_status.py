"""The table from errors to statuses: complete, and as the contract's comments say it."""

import re

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from humanseg.v1 import segmentation_pb2 as pb
from service.call_errors import CallError, Reason
from service.status import CODES, internal, to_status
from support.server import ROOT

PROTO = (ROOT / "proto" / "humanseg" / "v1" / "segmentation.proto").read_text()


def details(status: grpc.Status) -> status_pb2.Status:
    packed = dict(status.trailing_metadata)["grpc-status-details-bin"]
    return status_pb2.Status.FromString(packed)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_each_reason_has_the_code_that_the_contract_states(reason: Reason) -> None:
    comment = re.search(rf"// ([A-Z_]+)\b[^\n]*(?:\n  //[^\n]*)*\n  ERROR_REASON_{reason.name} = \d+;", PROTO)
    assert comment is not None
    assert CODES[reason][0].name == comment[1]
    assert pb.ErrorReason.Value(f"ERROR_REASON_{reason.name}") > 0


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_each_status_carries_its_reason_and_a_delay_where_a_retry_helps(reason: Reason) -> None:
    status = to_status(CallError(reason, "what is wrong", fields=[("a.b", "must be 1")], metadata={"limit_px": "7"}))
    code, retry_after_s = CODES[reason]
    assert (status.code, status.details) == (code, "what is wrong")
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    packed = details(status)
    assert (packed.code, packed.message) == (code.value[0], "what is wrong")
    assert packed.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason.name, "humanseg.v1", {"limit_px": "7"})
    assert packed.details[1].Unpack(bad)
    assert [(item.field, item.description) for item in bad.field_violations] == [("a.b", "must be 1")]
    assert len(packed.details) == (2 if retry_after_s is None else 3)
    if retry_after_s is not None:
        assert packed.details[2].Unpack(retry)
        assert retry.retry_delay.ToTimedelta().total_seconds() == retry_after_s


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_whoever_can_come_again_is_told_when(code: grpc.StatusCode) -> None:
    """LIMIT_EXCEEDED is the exception: the same picture stays too large."""
    silent = {reason for reason, (found, delay) in CODES.items() if found is code and delay is None}
    assert silent <= {Reason.LIMIT_EXCEEDED}


def test_a_quota_that_is_used_up_names_whose_it_is() -> None:
    status = to_status(CallError(Reason.TENANT_QUOTA, "too many", quota_subject="tenant:acme"))
    quota = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(quota) for detail in details(status).details)
    assert [(violation.subject, violation.description) for violation in quota.violations] == [
        ("tenant:acme", "too many")
    ]


def test_an_unexpected_fault_says_nothing_but_its_id() -> None:
    error = internal("abc123")
    assert (error.reason, error.metadata) == (Reason.INTERNAL, {"request_id": "abc123"})
    assert "abc123" in str(error)
