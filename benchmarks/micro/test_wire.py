"""Bytes to message and back, beside every stage: a 640x360 I420 frame in, an ALPHA8 mask out."""

from pytest_benchmark.fixture import BenchmarkFixture

from humanseg.v1 import segmentation_pb2 as pb
from service.wire import CutResponse, cut_request, join_response

FRAME_BYTES, MASK_BYTES = 640 * 360 * 3 // 2, 640 * 360


def test_read_request(benchmark: BenchmarkFixture) -> None:
    """The picture as a view."""
    frame = pb.Frame(frame_id=7, capture_time_us=10**15, picture=bytes(FRAME_BYTES))
    benchmark(cut_request, pb.StreamSegmentRequest(frame=frame).SerializeToString())


def test_write_response(benchmark: BenchmarkFixture) -> None:
    """The mask in one join."""
    result = pb.FrameResult(frame_id=7, outcome=pb.FRAME_OUTCOME_MASK, mask_width=640, mask_height=360)
    response = CutResponse(pb.StreamSegmentResponse(result=result), bytes(MASK_BYTES))
    benchmark(join_response, response)
