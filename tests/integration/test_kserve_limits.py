"""What holds for our own protocol holds for KServe's: who may call, how many, how long, and how a server stops."""

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, shared_memory

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_red_model, write_slow_model
from support.server import RunningServer, running_server
from support.stream import Ending, open_stream, red_gradient
from support.triton_client import InferTalk, bearer, code_of, image, jpeg, open_talk

W, H = 160, 96
PICTURE = red_gradient(W, H)
OWN = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}
ACME, UMBRELLA = (hashlib.sha256(name).hexdigest() for name in (b"acme", b"umbrella"))
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


async def refusal(call: Any) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        await call
    return caught.value


@pytest.fixture(scope="module")
def guarded(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With tokens: acme may have one session, umbrella as many as it likes."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    lines = [f"{hashlib.sha256(t.encode()).hexdigest()} {who}" for t, who in ((ACME, "acme 1"), (UMBRELLA, "umbrella"))]
    tokens.write_text("\n".join(lines))
    flags = ("--kserve", "--kserve-shared-memory", "--auth-tokens-file", str(tokens))
    with running_server(models_folder, *flags) as running:
        yield running


async def test_only_probes_need_no_token(guarded: RunningServer) -> None:
    async with triton_aio.InferenceServerClient(guarded.target) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        for headers in (None, bearer("0" * 64)):
            for call in (
                client.infer("medium", [image(PICTURE)], headers=headers),
                client.infer("medium", [image(PICTURE)], sequence_id=1, sequence_start=True, headers=headers),
                client.get_model_metadata("medium", headers=headers),
                client.get_inference_statistics(headers=headers),
                client.get_system_shared_memory_status(headers=headers),
                client.unregister_system_shared_memory(headers=headers),
            ):
                assert code_of(await refusal(call)) == grpc.StatusCode.UNAUTHENTICATED
        before = guarded.metric("humanseg_sessions_refused_total", reason="unauthenticated")
        async with open_talk(guarded.target) as talk:
            assert (await talk.ending()).reason == "UNAUTHENTICATED"
        assert guarded.metric("humanseg_sessions_refused_total", reason="unauthenticated") == before + 1
        mask = (await client.infer("medium", [image(PICTURE)], headers=bearer(ACME))).as_numpy("mask")
        assert mask.shape == (H, W)


async def test_a_tenants_quota_counts_sessions_of_both_protocols(guarded: RunningServer) -> None:
    wanted = "tenant acme has 1 streams open here, at most 1 may be"
    async with open_talk(guarded.target, ACME) as talk, triton_aio.InferenceServerClient(guarded.target) as client:
        talk.send(image(PICTURE), 1, sequence_start=True)
        await talk.mask()
        talk.send(image(PICTURE), 2, sequence_start=True, request_id="more")
        assert (await talk.refusal()).startswith(f"RESOURCE_EXHAUSTED: request 'more' of sequence 2: {wanted}")
        start = {"sequence_id": 3, "sequence_start": True}
        refused = await refusal(client.infer("medium", [image(PICTURE)], headers=bearer(ACME), **start))
        assert (code_of(refused), wanted in refused.message()) == (FULL, True)
        async with open_talk(guarded.target, ACME) as second:
            assert (await second.ending()).reason == "TENANT_QUOTA"
        async with open_stream(guarded.target) as unknown:
            assert (await unknown.ending()).reason == "UNAUTHENTICATED"
        assert guarded.metric("humanseg_sessions_refused_total", reason="tenant_quota") == 3
        await client.infer("medium", [image(PICTURE)], headers=bearer(UMBRELLA), **start)
        stranger = client.infer("medium", [image(PICTURE)], headers=bearer(ACME), sequence_id=3)
        assert code_of(await refusal(stranger)) == grpc.StatusCode.FAILED_PRECONDITION, "of another tenant"
        talk.send(image(PICTURE), 1, sequence_end=True)
        await talk.mask()
        guarded.wait_for_metric(1, "humanseg_sessions_active")
        talk.send(image(PICTURE), 2, sequence_start=True, sequence_end=True)
        assert (await talk.mask()).shape == (H, W), "there is room again"
        await client.infer("medium", [image(PICTURE)], headers=bearer(UMBRELLA), sequence_id=3, sequence_end=True)
    guarded.wait_for_metric(0, "humanseg_sessions_active")


def test_a_tenant_cannot_use_see_or_drop_anothers_regions(guarded: RunningServer) -> None:
    key = f"/test-{secrets.token_hex(6)}"
    region = shared_memory.create_shared_memory_region("mine", key, PICTURE.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [PICTURE])
        with triton.InferenceServerClient(guarded.target) as client:
            client.register_system_shared_memory("mine", key, PICTURE.nbytes, headers=bearer(ACME))
            tensor = triton.InferInput("image", list(PICTURE.shape), "UINT8")
            tensor.set_shared_memory("mine", PICTURE.nbytes)
            assert not client.get_system_shared_memory_status(headers=bearer(UMBRELLA)).regions
            for name in ("mine", ""):
                client.unregister_system_shared_memory(name, headers=bearer(UMBRELLA))
            with pytest.raises(InferenceServerException, match="region 'mine' is not registered") as caught:
                client.infer("medium", [tensor], headers=bearer(UMBRELLA))
            assert code_of(caught.value) == grpc.StatusCode.FAILED_PRECONDITION
            mask = client.infer("medium", [tensor], headers=bearer(ACME)).as_numpy("mask")
            assert mask.shape == (H, W), "the owner still has it"
            client.unregister_system_shared_memory(headers=bearer(ACME))
            assert not client.get_system_shared_memory_status(headers=bearer(ACME)).regions
    finally:
        shared_memory.destroy_shared_memory_region(region)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two sessions, two stills, one engine thread, and a model that holds it for long."""
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    limits = ("--max-sessions", "2", "--max-stills", "2", "--runners", "1")
    load = ("--admission-load", "0.9", "--admission-fps", "100")
    with running_server(models, "--kserve", *limits, *load) as running:
        yield running


async def test_sequences_that_begin_at_once_do_not_pass_the_limit_of_sessions(small: RunningServer) -> None:
    async with triton_aio.InferenceServerClient(small.target) as client:
        starts = [
            client.infer("medium", [image(PICTURE)], sequence_id=n, sequence_start=True) for n in range(1, 9)
        ]  # fmt: skip
        answers = await asyncio.gather(*starts, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, InferenceServerException)]
        assert len(refused) == 6
        assert {code_of(error) for error in refused} == {FULL}
        assert small.metric("humanseg_sessions_refused_total", reason="too_many_sessions") == 6
        async with open_stream(small.target) as own:
            assert (await own.ending()).reason == "TOO_MANY_SESSIONS", "both protocols share the room"
        failed = (await client.get_inference_statistics("medium")).model_stats[0].inference_stats.fail.count
        assert failed == 6
        taken = [n for n, answer in enumerate(answers, 1) if not isinstance(answer, InferenceServerException)]
        for n in taken:
            await client.infer("medium", [image(PICTURE)], sequence_id=n, sequence_end=True)
    small.wait_for_metric(0, "humanseg_sessions_active")


async def test_streams_without_a_sequence_are_limited_too(small: RunningServer) -> None:
    async with open_talk(small.target) as first, open_talk(small.target) as second:
        for talk in (first, second):
            talk.send(image(PICTURE), 0)
            await talk.mask()
        async with open_talk(small.target) as third:
            assert (await third.ending()).reason == "TOO_MANY_SESSIONS"
        first.half_close()
        assert (await first.ending()).code == grpc.StatusCode.OK
        async with open_talk(small.target) as again:
            again.send(image(PICTURE), 0)
            await again.mask()


async def test_sequences_take_what_live_streams_leave_over(small: RunningServer) -> None:
    live = {"model": "slow", **OWN}
    async with open_stream(small.target) as first:
        await first.config(**live)
        await first.send(1, PICTURE.tobytes())
        await first.result()
        async with open_stream(small.target) as second:
            await second.send_config(**live)
            assert (await second.ending()).reason == "OVERLOADED"
        async with open_talk(small.target) as talk:
            talk.send(image(PICTURE), 1, model="slow", sequence_start=True, sequence_end=True)
            assert (await talk.mask()).shape == (H, W), "as a stream under FRAME_POLICY_EVERY"


async def test_stills_beyond_the_limit_are_refused(small: RunningServer) -> None:
    async with triton_aio.InferenceServerClient(small.target) as client:
        calls = [client.infer("slow", [image(PICTURE)]) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, InferenceServerException)]
        assert 0 < len(refused) <= 10
        assert {code_of(error) for error in refused} == {FULL}


async def test_a_cancelled_stream_frees_its_sessions_at_once(small: RunningServer) -> None:
    async with open_talk(small.target) as talk:
        for sequence in (1, 2):
            talk.send(image(PICTURE), sequence, model="slow", sequence_start=True)
        await talk.mask()
        await talk.mask()
        for sequence in (1, 2, 1, 2):
            talk.send(image(PICTURE), sequence, model="slow")
        await talk.mask()
        assert small.metric("humanseg_sessions_active") == 2
    small.wait_for_metric(0, "humanseg_sessions_active")
    assert "level=error" not in small.log()


async def test_a_start_under_an_open_id_ends_that_sequence_and_answers_it_first(small: RunningServer) -> None:
    ended = small.metric("humanseg_sessions_total", outcome="ok")
    bright, dark = np.full_like(PICTURE, 200), np.full_like(PICTURE, 20)
    async with open_talk(small.target) as talk:
        talk.send(image(bright), "room", sequence_start=True, request_id="a")
        for request_id in ("b", "c"):
            talk.send(image(bright), "room", request_id=request_id)
        talk.send(image(dark), "room", sequence_start=True, request_id="d")
        answers = [await talk.read() for _ in range(4)]
        assert [result.get_response().id for result, _ in answers] == ["a", "b", "c", "d"]
        assert np.unique(answers[3][0].as_numpy("mask")).tolist() == [20], "nothing of the sequence before"
        assert small.metric("humanseg_sessions_active") == 1
        assert small.metric("humanseg_sessions_total", outcome="ok") == ended + 1


async def test_silence_ends_sequences_and_streams(models_folder: Path) -> None:
    with running_server(models_folder, "--kserve", "--idle-timeout-s", "1") as server:
        async with open_talk(server.target) as talk, triton_aio.InferenceServerClient(server.target) as client:
            talk.send(image(PICTURE), 1, sequence_start=True)
            await talk.mask()
            await client.infer("medium", [image(PICTURE)], sequence_id=1, sequence_start=True)
            ending = await talk.ending()
            assert (ending.code, ending.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "IDLE_TIMEOUT")
            server.wait_for_metric(2, "humanseg_sessions_total", outcome="idle_timeout")
            late = await refusal(client.infer("medium", [image(PICTURE)], sequence_id=1))
            assert code_of(late) == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_stream_of_the_greatest_age_is_ended_though_its_client_goes_on(models_folder: Path) -> None:
    with running_server(models_folder, "--kserve", "--max-stream-age-s", "2", "--age-notice-s", "1") as server:
        async with open_talk(server.target) as talk:
            talk.send(image(PICTURE), 1, sequence_start=True)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                for _ in range(1000):
                    await talk.read()
                    talk.send(image(PICTURE), 0)
                    await asyncio.sleep(0.02)
            ending = Ending.of_error(caught.value)
            assert (ending.code, ending.reason) == (grpc.StatusCode.UNAVAILABLE, "MAX_AGE")
            async with open_talk(server.target) as next_one:
                next_one.send(image(PICTURE), 1, sequence_start=True)
                await next_one.mask()


@pytest.mark.parametrize("sequence", [0, 1], ids=["stills", "sequence"])
async def test_a_client_that_does_not_read_is_cut_off(models_folder: Path, sequence: int) -> None:
    done, file = cv2.imencode(".jpg", np.zeros((1080, 1920, 3), np.uint8))
    assert done
    with running_server(models_folder, "--kserve", "--write-timeout-s", "0.5") as server:
        async with open_talk(server.target) as deaf:
            for number in range(40):
                deaf.send(
                    jpeg(file.tobytes()), sequence, model="medium-jpeg", sequence_start=number == 0 and sequence != 0
                )
            await asyncio.sleep(2)
            async with open_talk(server.target) as other:
                other.send(image(PICTURE), 1, sequence_start=True, sequence_end=True)
                assert (await other.mask()).shape == (H, W), "others are served meanwhile"
            server.wait_for_metric(0, "humanseg_sessions_active")
            ending = await deaf.ending()
            assert (ending.code, ending.reason) == (FULL, "CLIENT_NOT_READING")
        assert "event=call_failed" not in server.log()


async def start_of(talk: InferTalk, model: str) -> None:
    talk.send(image(PICTURE), 1, model=model, sequence_start=True)
    await talk.mask()


async def test_a_drain_answers_what_was_taken_and_does_not_wait_for_sequences(tmp_path: Path) -> None:
    """Three open sequences, one with requests under way; with ten minutes for the drain, it must not need them."""
    write_red_model(tmp_path / "medium.onnx")
    write_slow_model(tmp_path / "slow.onnx")
    with running_server(tmp_path, "--kserve", "--drain-s", "600") as server:
        async with (
            open_talk(server.target) as silent,
            open_talk(server.target) as busy,
            open_talk(server.target) as without,
            triton_aio.InferenceServerClient(server.target) as client,
        ):
            await start_of(silent, "medium")
            await start_of(busy, "slow")
            without.send(image(PICTURE), 0)
            await without.mask()
            await client.infer("medium", [image(PICTURE)], sequence_id=1, sequence_start=True)
            for _ in range(4):
                busy.send(image(PICTURE), 1, model="slow")
            await busy.mask()
            server.terminate()
            for _ in range(3):
                assert (await busy.mask()).shape == (H, W)
            for talk in (silent, busy, without):
                ending = await talk.ending()
                assert (ending.code, ending.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert await asyncio.to_thread(server.wait, 20) == 0
    assert "event=stopped sessions_cut=0" in server.log()
    assert "event=drain_incomplete" not in server.log()


async def test_a_request_for_a_sequence_during_the_drain_is_told_to_go_elsewhere(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    with running_server(tmp_path, "--kserve", "--drain-s", "600") as server:
        # A stream of our own keeps the server draining until it leaves.
        async with open_stream(server.target) as own, triton_aio.InferenceServerClient(server.target) as client:
            await own.config(**OWN)
            await client.infer("medium", [image(PICTURE)], sequence_id=1, sequence_start=True)
            server.terminate()
            assert (await own.read()).WhichOneof("message") == "notice"
            server.wait_for_metric(1, "humanseg_sessions_active")
            for request in ({"sequence_id": 1}, {"sequence_id": 2, "sequence_start": True}):
                refused = await refusal(client.infer("medium", [image(PICTURE)], **request))
                assert (code_of(refused), "this server stops" in refused.message()) == (
                    grpc.StatusCode.UNAVAILABLE, True,
                )  # fmt: skip
            assert server.metric("humanseg_sessions_refused_total", reason="draining") == 1
            await own.finish()
        assert await asyncio.to_thread(server.wait, 20) == 0


async def test_two_workers_serve_streams_and_sequences_of_calls_on_one_connection(models_folder: Path) -> None:
    with running_server(models_folder, "--workers", "2", "--kserve", "--drain-s", "600") as server:
        for number in range(40):
            async with open_talk(server.target) as talk:
                for turn in range(3):
                    talk.send(image(PICTURE), "s", sequence_start=turn == 0, sequence_end=turn == 2)
                    await talk.mask()
            async with triton_aio.InferenceServerClient(server.target) as client:
                for turn in range(3):
                    ends = {"sequence_start": turn == 0, "sequence_end": turn == 2}
                    await client.infer("medium", [image(PICTURE)], sequence_id=number + 1, **ends)
            served = [server.metric("humanseg_sessions_total", worker=str(n), outcome="ok") for n in (0, 1)]
            if min(served) > 0:
                break
        assert min(served) > 0, "one worker gets everything"
        server.terminate()
        assert await asyncio.to_thread(server.wait, 20) == 0


def test_a_model_called_as_anothers_jpeg_variant_is_refused_at_the_start(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    write_red_model(tmp_path / "other.onnx", name="medium-jpeg")
    with (
        pytest.raises(AssertionError, match="did not come up") as caught,
        running_server(tmp_path, "--kserve") as running,
    ):
        raise RuntimeError(f"serves at {running.target}")
    text = "--kserve serves models twice, as NAME and NAME-jpeg, and 'medium-jpeg' would be two; rename one"
    assert "event=start_failed" in str(caught.value)
    assert text in str(caught.value)
