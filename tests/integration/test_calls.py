"""ListModels, Segment and the life of a stream's config, against a real server."""

import asyncio

import cv2
import grpc
import numpy as np
import pytest

from humanseg.masks import MaskEncoding, decode_mask
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from support.models import LANDSCAPE
from support.server import RunningServer
from support.stream import Ending, open_stream, open_stub, red_gradient

W, H = 160, 96
RGB = pb.PIXEL_FORMAT_RGB24


async def refused(server: RunningServer, request: pb.SegmentRequest) -> Ending:
    async with open_stub(server.target) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Segment(request)
    return Ending.of_error(caught.value)


async def test_list_models(server: RunningServer) -> None:
    async with open_stub(server.target) as stub:
        answer = await stub.ListModels(pb.ListModelsRequest())
    assert [(model.name, model.is_default) for model in answer.models] == [("medium", True), ("faulty", False)]
    model = answer.models[0]
    assert (model.version, model.engine) == ("test", "onnxruntime-cpu")
    assert (model.network_width, model.network_height) == LANDSCAPE
    limits = answer.limits
    assert limits.max_frame_bytes == 3 * limits.max_frame_px >= 1920 * 1080 * 3
    assert limits.max_side_px == 4096
    assert limits.config_timeout.ToTimedelta().total_seconds() == 10
    assert limits.idle_timeout.ToTimedelta().total_seconds() == 60
    assert limits.write_timeout.ToTimedelta().total_seconds() == 10


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("named", [False, True])
async def test_a_photo_comes_back_as_a_mask_of_its_own_size(server: RunningServer, extension: str, named: bool) -> None:
    """By its first bytes, or by the format and size the client states."""
    picture = red_gradient(201, 121)
    ok, data = cv2.imencode(extension, picture[..., ::-1])
    assert ok
    kind = pb.PIXEL_FORMAT_PNG if extension == ".png" else pb.PIXEL_FORMAT_JPEG
    stated = {"pixel_format": kind, "width": 201, "height": 121} if named else {}
    request = pb.SegmentRequest(picture=data.tobytes(), mask_encoding=pb.MASK_ENCODING_PNG, **stated)
    async with open_stub(server.target) as stub:
        answer = await stub.Segment(request)
    assert (answer.mask_width, answer.mask_height) == (201, 121)
    assert (answer.mask_encoding, answer.model.name) == (pb.MASK_ENCODING_PNG, "medium")
    mask = decode_mask(answer.mask, MaskEncoding.PNG, Size(201, 121))
    assert np.abs(mask.astype(int) - picture[..., 0]).mean() < 3
    assert answer.times.decode_us > 0
    assert answer.times.total_us >= answer.times.inference_us > 0
    assert answer.times.fusion_us == 0, "a still has no past"


async def test_a_raw_still_turned_and_of_another_mask_size(server: RunningServer) -> None:
    picture = red_gradient(W, H)
    request = pb.SegmentRequest(
        picture=picture.tobytes(), pixel_format=RGB, width=W, height=H, rotation=pb.ROTATION_270, mask_width=80,
        mask_height=48,
    )  # fmt: skip
    async with open_stub(server.target) as stub:
        answer = await stub.Segment(request)
    mask = decode_mask(answer.mask, MaskEncoding.ALPHA8, Size(80, 48))
    wanted = cv2.resize(picture[..., 0], (80, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(mask.astype(int) - wanted).mean() < 3


GOOD = red_gradient(W, H).tobytes()


@pytest.mark.parametrize(
    ("request_", "field", "text"),
    [
        (pb.SegmentRequest(picture=GOOD, pixel_format=RGB), "width, height", "size 0x0 is empty"),
        (pb.SegmentRequest(picture=GOOD, pixel_format=RGB, width=W), "width, height", f"size {W}x0 is empty"),
        (pb.SegmentRequest(picture=GOOD, pixel_format=RGB, width=9999, height=1), "width, height", "max_side_px 4096"),
        (pb.SegmentRequest(picture=b"x", pixel_format=77), "pixel_format", "value 77 is not known"),
        (pb.SegmentRequest(picture=b"x", rotation=9), "rotation", "value 9 is not known"),
        (pb.SegmentRequest(picture=b"x", mask_encoding=9), "mask_encoding", "value 9 is not known"),
        (pb.SegmentRequest(picture=b"x", people=9), "people", "value 9 is not known"),
        (pb.SegmentRequest(picture=b"x", mask_width=4), "mask_width, mask_height", "4x0 is empty"),
    ],
)
async def test_a_bad_field_of_a_still_is_named(
    server: RunningServer, request_: pb.SegmentRequest, field: str, text: str
) -> None:
    ending = await refused(server, request_)
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert ending.fields.keys() == {field}
    assert text in ending.fields[field]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.SegmentRequest(), "begins with nothing"),
        (pb.SegmentRequest(picture=b"GIF89a"), "neither JPEG nor PNG: begins with 47 49 46"),
        (pb.SegmentRequest(picture=GOOD[:-1], pixel_format=RGB, width=W, height=H), f"expected {len(GOOD)}"),
        (pb.SegmentRequest(picture=b"\x89PNG\r\n\x1a\nrest"), "PNG truncated"),
    ],
)
async def test_a_still_that_cannot_be_read(server: RunningServer, request_: pb.SegmentRequest, text: str) -> None:
    ending = await refused(server, request_)
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PICTURE_INVALID")
    assert text in ending.fields["picture"]


async def test_an_unknown_model_for_a_still(server: RunningServer) -> None:
    ending = await refused(server, pb.SegmentRequest(model="huge", picture=b"x"))
    assert (ending.code, ending.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


async def test_too_many_bytes_for_a_still(server: RunningServer) -> None:
    async with open_stub(server.target) as stub:
        limit = (await stub.ListModels(pb.ListModelsRequest())).limits.max_frame_bytes
    ending = await refused(server, pb.SegmentRequest(picture=bytes(limit + 1)))
    assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert ending.info is not None
    assert ending.info.metadata["max_frame_bytes"] == str(limit)


async def test_an_engine_fault_on_a_still_says_nothing_but_where_to_look(server: RunningServer) -> None:
    white = np.full((H, W, 3), 255, np.uint8).tobytes()
    ending = await refused(
        server, pb.SegmentRequest(model="faulty", picture=white, pixel_format=RGB, width=W, height=H)
    )
    assert (ending.code, ending.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert ending.info is not None
    request_id = ending.info.metadata["request_id"]
    assert "onnx" not in ending.message.lower()
    for _ in range(100):
        if f"request_id={request_id}" in server.log():
            break
        await asyncio.sleep(0.02)
    assert f"request_id={request_id}" in server.log()


async def test_the_accepted_config_has_every_default_filled_in(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        accepted = await stream.config(width=W, height=H)
        assert accepted.config == pb.SessionConfig(
            model="medium", width=W, height=H, pixel_format=pb.PIXEL_FORMAT_I420, rotation=pb.ROTATION_0,
            temporal_fusion=pb.TEMPORAL_FUSION_HIGH, mask_encoding=pb.MASK_ENCODING_ALPHA8,
            frame_policy=pb.FRAME_POLICY_NEWEST, estimates=pb.ESTIMATES_OFF, degradation=pb.DEGRADATION_OFF,
            color_matrix=pb.COLOR_MATRIX_BT601, color_range=pb.COLOR_RANGE_LIMITED,
            people=pb.PEOPLE_ALL,
        )  # fmt: skip
        assert (accepted.model.name, accepted.model.version) == ("medium", "test")
        assert accepted.limits.max_side_px == 4096
        assert await stream.finish() == []


async def test_a_phone_turns_and_a_simulcast_layer_switches_in_mid_call(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        expected = [
            ({}, (W, H), pb.STATE_RESET_FIRST_FRAME),
            ({}, (W, H), pb.STATE_RESET_UNSPECIFIED),
            ({"width": 320, "height": 192}, (320, 192), pb.STATE_RESET_UNSPECIFIED),
            ({"rotation": pb.ROTATION_180}, (W, H), pb.STATE_RESET_ROTATION),
            ({"rotation": pb.ROTATION_180, "mirrored": True}, (W, H), pb.STATE_RESET_ROTATION),
            ({"width": 96, "height": 160}, (96, 160), pb.STATE_RESET_ROTATION),
            ({"width": 160, "height": 160}, (160, 160), pb.STATE_RESET_SIZE),
        ]
        for index, (fields, (width, height), reset) in enumerate(expected):
            picture = red_gradient(width, height)
            await stream.send(index + 1, picture.tobytes(), **fields)
            result = await stream.result()
            assert (result.mask_width, result.mask_height, result.reset) == (width, height, reset), fields
            mask = np.frombuffer(result.mask, np.uint8).reshape(height, width)
            assert np.abs(mask.astype(int) - picture[..., 0]).mean() < 4, fields


async def test_a_model_switched_in_mid_stream_resets_and_says_so(server: RunningServer) -> None:
    dark = np.zeros((H, W, 3), np.uint8).tobytes()
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        await stream.send(1, dark)
        await stream.result()
        accepted = await stream.config(model="faulty", width=W, height=H, pixel_format=RGB)
        assert list(accepted.resets) == [pb.STATE_RESET_MODEL]
        assert accepted.model.name == "faulty"
        await stream.send(2, dark)
        assert (await stream.result()).reset == pb.STATE_RESET_MODEL
