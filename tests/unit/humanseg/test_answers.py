import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from humanseg.answers import (
    Accepted,
    Dropped,
    DropReason,
    Estimated,
    MaskAnswer,
    Notice,
    NoticeReason,
    StateReset,
    read_answer,
    read_model_list,
    read_segmented,
)
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding, encode_mask
from humanseg.options import Estimates, FramePolicy, TemporalFusion
from humanseg.session_config import SessionConfig
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation

ALPHA = np.arange(12, dtype=np.uint8).reshape(3, 4)


def mask_result(encoding: MaskEncoding, number: "pb.MaskEncoding.ValueType", **fields: object) -> pb.FrameResult:
    return pb.FrameResult(
        frame_id=7,
        capture_time_us=-5,
        outcome=pb.FRAME_OUTCOME_MASK,
        mask=encode_mask(ALPHA, encoding),
        mask_encoding=number,
        mask_width=4,
        mask_height=3,
        times=pb.StageTimes(inference_us=11, total_us=20),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("encoding", "number"),
    [(MaskEncoding.ALPHA8, pb.MASK_ENCODING_ALPHA8), (MaskEncoding.PNG, pb.MASK_ENCODING_PNG)],
)
def test_a_mask_is_decoded(encoding: MaskEncoding, number: "pb.MaskEncoding.ValueType") -> None:
    answer = read_answer(pb.StreamSegmentResponse(result=mask_result(encoding, number, reset=pb.STATE_RESET_SCENE)))
    assert isinstance(answer, MaskAnswer)
    assert (answer.frame_id, answer.capture_time_us, answer.reset) == (7, -5, StateReset.SCENE)
    assert (answer.alpha8 == ALPHA).all()
    assert (answer.times.inference_us, answer.times.total_us, answer.times.fusion_us) == (11, 20, 0)


def test_no_reset_is_none() -> None:
    answer = read_answer(pb.StreamSegmentResponse(result=mask_result(MaskEncoding.ALPHA8, pb.MASK_ENCODING_ALPHA8)))
    assert isinstance(answer, MaskAnswer)
    assert answer.reset is None


def test_an_estimate_cannot_be_taken_for_a_mask() -> None:
    result = mask_result(MaskEncoding.ALPHA8, pb.MASK_ENCODING_ALPHA8)
    result.outcome = pb.FRAME_OUTCOME_ESTIMATE
    answer = read_answer(pb.StreamSegmentResponse(result=result))
    assert isinstance(answer, Estimated)
    assert not isinstance(answer, MaskAnswer)
    assert (answer.frame_id, answer.capture_time_us, answer.times.total_us) == (7, -5, 20)
    assert (answer.alpha8 == ALPHA).all()


def test_a_mask_of_the_wrong_size_is_refused() -> None:
    result = mask_result(MaskEncoding.ALPHA8, pb.MASK_ENCODING_ALPHA8)
    result.mask_width = 5
    with pytest.raises(ValueError, match="expected 15"):
        read_answer(pb.StreamSegmentResponse(result=result))


def test_an_encoding_nobody_asked_for_is_refused() -> None:
    result = mask_result(MaskEncoding.ALPHA8, pb.MASK_ENCODING_ALPHA8)
    result.mask_encoding = 99  # type: ignore[assignment]
    with pytest.raises(ValueError, match="99 is not known"):
        read_answer(pb.StreamSegmentResponse(result=result))


@pytest.mark.parametrize("reason", [reason for reason in DropReason if reason is not DropReason.UNKNOWN])
def test_every_drop_reason_of_the_contract(reason: DropReason) -> None:
    number = pb.DropReason.Value(f"DROP_REASON_{reason.name}")
    result = pb.FrameResult(frame_id=3, outcome=pb.FRAME_OUTCOME_DROPPED, drop_reason=number, drop_detail="why")
    answer = read_answer(pb.StreamSegmentResponse(result=result))
    assert isinstance(answer, Dropped)
    assert (answer.frame_id, answer.reason, answer.detail) == (3, reason, "why")


def test_enums_have_the_names_of_the_contract() -> None:
    for ours, theirs, prefix in (
        (DropReason, pb.DropReason, "DROP_REASON_"),
        (StateReset, pb.StateReset, "STATE_RESET_"),
        (NoticeReason, pb.NoticeReason, "NOTICE_REASON_"),
    ):
        names = {name.removeprefix(prefix) for name in theirs.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
        assert {member.name for member in ours} - {"UNKNOWN"} == names


def test_what_a_newer_server_says_is_unknown_and_no_error() -> None:
    result = pb.FrameResult(frame_id=3, outcome=pb.FRAME_OUTCOME_DROPPED)
    result.drop_reason = 99  # type: ignore[assignment]
    answer = read_answer(pb.StreamSegmentResponse(result=result))
    assert isinstance(answer, Dropped)
    assert answer.reason is DropReason.UNKNOWN
    # A message of a kind that is not in this release's oneof.
    assert read_answer(pb.StreamSegmentResponse.FromString(b"\x92\x03\x02\x08\x01")) is None


def test_a_notice_has_its_time_in_seconds() -> None:
    notice = pb.Notice(reason=pb.NOTICE_REASON_DRAINING, time_left=Duration(seconds=2, nanos=250_000_000))
    assert read_answer(pb.StreamSegmentResponse(notice=notice)) == Notice(NoticeReason.DRAINING, 2.25)


def test_an_accepted_config_comes_back_as_it_was_asked_for() -> None:
    config = SessionConfig(
        size=Size(640, 360),
        model="medium",
        pixel_format=PixelFormat.NV12,
        rotation=Rotation.DEG_270,
        mirrored=True,
        temporal_fusion=TemporalFusion.LOW,
        mask_encoding=MaskEncoding.PNG,
        mask_size=Size(320, 180),
        frame_policy=FramePolicy.EVERY,
        label="me",
        estimates=Estimates.SUPERSEDED,
    )
    message = pb.AcceptedConfig(
        config=config.to_message(),
        model=pb.ModelInfo(name="medium", version="3", engine="cpu", network_width=320, network_height=192),
        limits=pb.Limits(max_frame_bytes=1, max_frame_px=2, max_side_px=3, idle_timeout=Duration(seconds=60)),
        resets=[pb.STATE_RESET_SIZE, pb.STATE_RESET_MODEL],
    )
    answer = read_answer(pb.StreamSegmentResponse(accepted=message))
    assert isinstance(answer, Accepted)
    assert answer.config == config
    assert answer.model.network_size == Size(320, 192)
    assert (answer.limits.max_side_px, answer.limits.idle_timeout_s) == (3, 60)
    assert answer.resets == (StateReset.SIZE, StateReset.MODEL)


@pytest.mark.parametrize("field", ["size", "mask_size"])
def test_a_config_takes_plain_pairs_and_no_negative_sides(field: str) -> None:
    assert SessionConfig((4, 3)).size == Size(4, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be negative"):
        SessionConfig(**{"size": Size(1, 1), field: (4, -3)})  # type: ignore[arg-type]


def test_models_and_stills_are_read() -> None:
    listed = read_model_list(pb.ListModelsResponse(models=[pb.ModelInfo(name="a", is_default=True)]))
    assert [(model.name, model.is_default) for model in listed.models] == [("a", True)]
    still = pb.SegmentResponse(mask=ALPHA.tobytes(), mask_encoding=pb.MASK_ENCODING_ALPHA8, mask_width=4, mask_height=3)
    assert (read_segmented(still).alpha8 == ALPHA).all()
