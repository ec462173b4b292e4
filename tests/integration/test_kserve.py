"""Any tritonclient program against the service: NVIDIA's own clients, and what they must not be able to do."""

import asyncio
import queue
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, shared_memory

import humanseg
from humanseg.v1 import segmentation_pb2 as pb
from service.healthcheck import check
from support.server import ROOT, RunningServer, running_server
from support.stream import open_stream, open_stub, red_gradient
from support.timing import limit_s
from support.triton_client import image, jpeg

W, H = 160, 96
PICTURE = red_gradient(W, H)
GOOD = {"model_name": "medium", "request_id": "good"}


@pytest.fixture(scope="module")
def kserve(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--kserve", "--kserve-shared-memory") as running:
        yield running


@pytest.fixture
def client(kserve: RunningServer) -> Iterator[Any]:
    with triton.InferenceServerClient(kserve.target) as opened:
        yield opened
        opened.unregister_system_shared_memory()


def encoded(picture: NDArray[np.uint8]) -> bytes:
    done, file = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))
    assert done
    return file.tobytes()


async def segment(target: str, **fields: Any) -> bytes:
    async with open_stub(target) as stub:
        answer = await stub.Segment(pb.SegmentRequest(mask_encoding=pb.MASK_ENCODING_ALPHA8, **fields))
        return bytes(answer.mask)


def test_it_says_what_it_is(client: Any, kserve: RunningServer) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("medium")
    assert client.is_model_ready("medium-jpeg", "1")
    assert not client.is_model_ready("large")
    assert not client.is_model_ready("medium", "2")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("humanseg", humanseg.__version__)
    assert {"sequence", "system_shared_memory", "statistics"} <= set(server.extensions)
    assert check(kserve.target) == "SERVING"


def test_it_says_what_its_models_take(client: Any) -> None:
    metadata = client.get_model_metadata("medium")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("image", "UINT8", [-1, -1, 3])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("mask", "UINT8", [-1, -1])]
    files = client.get_model_metadata("medium-jpeg")
    assert [(t.name, t.datatype, list(t.shape)) for t in files.inputs] == [("jpeg", "BYTES", [1])]
    config = client.get_model_config("medium").config
    assert config.HasField("sequence_batching")
    assert config.parameters["humanseg.version"].string_value == "test"
    names = {model.name for model in client.get_model_repository_index().models}
    assert names == {"medium", "medium-jpeg", "faulty", "faulty-jpeg"}


async def test_a_still_has_the_mask_of_segment(kserve: RunningServer, client: Any) -> None:
    before = client.get_inference_statistics("medium").model_stats[0]
    result = client.infer("medium", [image(PICTURE)], request_id="still")
    mask = result.as_numpy("mask")
    assert result.get_response().id == "still"
    assert (mask.dtype, mask.shape) == (np.uint8, (H, W))
    assert mask.tobytes() == await segment(
        kserve.target, picture=PICTURE.tobytes(), width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24
    )
    assert np.abs(mask.astype(int) - PICTURE[..., 0]).max() <= 1
    after = client.get_inference_statistics("medium").model_stats[0]
    assert after.inference_count - before.inference_count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns


async def test_a_jpeg_has_the_mask_of_segment(kserve: RunningServer, client: Any) -> None:
    file = encoded(PICTURE)
    mask = client.infer("medium-jpeg", [jpeg(file)]).as_numpy("mask")
    assert mask.shape == (H, W)
    assert mask.tobytes() == await segment(kserve.target, picture=file)


def moving(number: int, shift: int) -> NDArray[np.uint8]:
    """Frame of a scene that changes a little, so that fusion has something to do."""
    noise = np.random.default_rng(number + 1000 * shift).integers(0, 25, (H, W, 1))
    return np.clip(red_gradient(W, H, shift).astype(int) + noise, 0, 255).astype(np.uint8)


async def own_masks(target: str, frames: list[NDArray[np.uint8]]) -> list[bytes]:
    async with open_stream(target) as stream:
        await stream.config(
            width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=pb.FRAME_POLICY_EVERY,
            mask_encoding=pb.MASK_ENCODING_ALPHA8,
        )  # fmt: skip
        masks = []
        for number, frame in enumerate(frames, 1):
            await stream.send(number, frame.tobytes())
            masks.append(bytes((await stream.result()).mask))
        return masks


@pytest.mark.parametrize("kind", ["stream", "calls"])
async def test_two_interleaved_sequences_have_the_masks_of_two_streams(kserve: RunningServer, kind: str) -> None:
    scenes: dict[int | str, list[NDArray[np.uint8]]] = {
        7: [moving(n, 0) for n in range(6)], "room": [moving(n, 90) for n in range(6)],
    }  # fmt: skip
    requests = [
        {
            "model_name": "medium", "inputs": [image(scenes[key][n])], "request_id": f"{key}/{n}", "sequence_id": key,
            "sequence_start": n == 0, "sequence_end": n == 5, "parameters": {"capture_time_us": (n + 1) * 33_333},
        }
        for n in range(6) for key in scenes
    ]  # fmt: skip
    masks: dict[str, bytes] = {}
    async with triton_aio.InferenceServerClient(kserve.target) as client:
        if kind == "calls":
            for request in requests:
                masks[str(request["request_id"])] = (await client.infer(**request)).as_numpy("mask").tobytes()
        else:

            async def sent() -> AsyncIterator[dict[str, Any]]:
                for request in requests:
                    yield request

            async with asyncio.timeout(limit_s(30)):
                async for result, error in client.stream_infer(sent()):
                    assert error is None
                    masks[result.get_response().id] = result.as_numpy("mask").tobytes()
    for key, frames in scenes.items():
        own = await own_masks(kserve.target, frames)
        assert [masks[f"{key}/{n}"] for n in range(6)] == own
        unfused = await segment(
            kserve.target, picture=frames[5].tobytes(), width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24
        )
        assert own[5] != unfused, "fusion does nothing here, so the test shows nothing"


def test_an_error_in_one_sequence_harms_no_other(kserve: RunningServer) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def next_answer() -> tuple[Any, Any]:
        return answers.get(timeout=limit_s(20))

    with triton.InferenceServerClient(kserve.target) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("medium", [image(PICTURE)], sequence_id=1, sequence_start=True)
        assert next_answer()[1] is None
        client.async_stream_infer("medium", [image(PICTURE)], sequence_id=2, request_id="lost")
        error = next_answer()[1]
        assert error.message().startswith("FAILED_PRECONDITION: request 'lost' of sequence 2: sequence 2 of medium is")
        flat = triton.InferInput("image", [H, W], "UINT8")
        flat.set_data_from_numpy(PICTURE[..., 0].copy())
        client.async_stream_infer("medium", [flat], sequence_id=1)
        assert next_answer()[1].message().startswith("INVALID_ARGUMENT: request of sequence 1: ")
        bright = np.full((H, W, 3), 200, np.uint8)
        client.async_stream_infer("faulty", [image(bright)], sequence_id=1, sequence_start=True)
        assert next_answer()[1].message().startswith("INTERNAL: request of sequence 1: frame 1: the engine failed")
        client.async_stream_infer("medium", [image(PICTURE)], sequence_id=1, sequence_end=True)
        result, error = next_answer()
        assert error is None
        assert result.as_numpy("mask").shape == (H, W)
        client.stop_stream()


def test_pictures_and_masks_through_shared_memory(client: Any) -> None:
    key = f"/test-{secrets.token_hex(6)}"
    region = shared_memory.create_shared_memory_region("both", key, 64 + PICTURE.nbytes + W * H)
    try:
        shared_memory.set_shared_memory_region(region, [PICTURE], offset=64)
        client.register_system_shared_memory("both", key, PICTURE.nbytes + W * H, offset=64)
        status = client.get_system_shared_memory_status("both").regions["both"]
        assert (status.key, status.offset, status.byte_size) == (key, 64, PICTURE.nbytes + W * H)
        tensor = triton.InferInput("image", list(PICTURE.shape), "UINT8")
        tensor.set_shared_memory("both", PICTURE.nbytes)
        wanted = triton.InferRequestedOutput("mask")
        wanted.set_shared_memory("both", W * H, offset=PICTURE.nbytes)
        result = client.infer("medium", [tensor], outputs=[wanted])
        assert list(result.get_response().raw_output_contents) == [b""]
        mask = shared_memory.get_contents_as_numpy(region, np.uint8, [H, W], offset=64 + PICTURE.nbytes)
        assert np.array_equal(mask, client.infer("medium", [image(PICTURE)]).as_numpy("mask"))
        for change in ({"byte_size": PICTURE.nbytes, "offset": W * H + 1}, {"byte_size": 7}):
            tensor.set_shared_memory("both", **change)
            assert refusal(client, "medium", [tensor]) == grpc.StatusCode.INVALID_ARGUMENT
        client.unregister_system_shared_memory("both")
        assert refusal(client, "medium", [image(PICTURE)], outputs=[wanted]) == grpc.StatusCode.FAILED_PRECONDITION
        del mask
    finally:
        shared_memory.destroy_shared_memory_region(region)


@pytest.mark.parametrize("key", ["/../etc/passwd", "a/b", "..", "/", "", "/humanseg-1-ab", "//a"])
def test_a_key_with_a_path_or_of_our_own_regions_is_refused(client: Any, key: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.register_system_shared_memory("x", key, 1)
    assert caught.value.status() == str(grpc.StatusCode.INVALID_ARGUMENT)
    assert "no path" in caught.value.message()


def refusal(client: Any, *arguments: Any, **more: Any) -> grpc.StatusCode:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(*arguments, **more)
    return next(code for code in grpc.StatusCode if str(code) == caught.value.status())


def test_bad_requests_have_the_fitting_status(client: Any) -> None:
    wrong_type = triton.InferInput("image", [H, W, 3], "INT8")
    wrong_type.set_data_from_numpy(PICTURE.view(np.int8))
    wrong_count = image(PICTURE)
    wrong_count.set_shape([H, W + 1, 3])
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(client, "large", [image(PICTURE)]) == grpc.StatusCode.NOT_FOUND
    assert refusal(client, "medium", [wrong_type]) == invalid
    assert refusal(client, "medium", [wrong_count]) == invalid
    assert refusal(client, "medium", [image(PICTURE[..., :2].copy())]) == invalid
    assert refusal(client, "medium", [jpeg(b"x")]) == invalid
    assert refusal(client, "medium-jpeg", [jpeg(b"no picture")]) == invalid
    assert refusal(client, "medium", [image(PICTURE)], outputs=[triton.InferRequestedOutput("alpha")]) == invalid
    assert refusal(client, "medium", [image(PICTURE)], parameters={"sequnce": 1}) == invalid
    assert refusal(client, "medium", [image(PICTURE)], sequence_id=99) == grpc.StatusCode.FAILED_PRECONDITION
    assert client.infer("medium", [image(PICTURE)]).as_numpy("mask").shape == (H, W)


def test_it_is_off_by_default(server: RunningServer) -> None:
    with triton.InferenceServerClient(server.target) as client, pytest.raises(InferenceServerException) as caught:
        client.is_server_live()
    assert caught.value.status() == str(grpc.StatusCode.UNIMPLEMENTED)


def test_without_the_extra_the_start_fails_and_says_what_to_install(models_folder: Path) -> None:
    program = "import sys; sys.modules['tritonclient'] = None; from service.__main__ import main; sys.exit(main())"
    flags = ["--port", "0", "--metrics-port", "0", "--models", str(models_folder), "--kserve"]
    done = subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "level=error event=start_failed " in done.stderr.splitlines()[-1]
    assert "install `humanseg[triton]`" in done.stderr
