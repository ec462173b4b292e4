"""What several workers share: certificates, tenants' numbers, the key of resume tokens, one answer to probes."""

import asyncio
import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from humanseg import (
    FramePolicy,
    MaskAnswer,
    OverloadedError,
    ResumeOutcome,
    ResumePoint,
    SegmentationClient,
    SessionConfig,
    Size,
    TlsFiles,
)
from support.certificates import Authority
from support.server import RunningServer, running_server
from support.timing import limit_s

W, H = 160, 96
CONFIG = SessionConfig(Size(W, H), frame_policy=FramePolicy.EVERY, resume_interval_s=1)
PICTURE = np.full((H, W, 3), 90, np.uint8)
#: The tenant may have three streams, of which each of two workers takes two.
ACME, OTHERS = (hashlib.sha256(name).hexdigest() for name in (b"acme", b"others"))
SHARE = 2
#: Connections that the kernel may give to one of two workers in a row; by chance, once in 10^12 runs.
CONNECTIONS = 40


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(models_folder: Path, authority: Authority, tmp_path: Path) -> Iterator[RunningServer]:
    certificate, key = authority.sign("server", 7)
    tokens = tmp_path / "tokens"
    lines = [f"{hashlib.sha256(token.encode()).hexdigest()} {who}" for token, who in ((ACME, "acme 3"), (OTHERS, "o"))]
    tokens.write_text("\n".join(lines))
    with running_server(
        models_folder, "--workers", "2", "--runners", "2", "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--auth-tokens-file", str(tokens), "--drain-s", "3",
    ) as running:  # fmt: skip
        yield running


def client(server: RunningServer, authority: Authority, token: str) -> SegmentationClient:
    """Each on a connection of its own, which the kernel gives to either worker."""
    credentials = TlsFiles(authority.certificate).credentials()
    return SegmentationClient(f"localhost:{server.port}", credentials=credentials, token=token)


def both(server: RunningServer, name: str, **labels: str) -> list[float]:
    return [server.metric(name, worker=str(index), **labels) for index in range(2)]


async def resume_point(server: RunningServer, authority: Authority) -> ResumePoint:
    async with client(server, authority, OTHERS) as caller, caller.stream(CONFIG) as stream:
        async with asyncio.timeout(limit_s(30)):
            for number in range(1000):
                await stream.send(PICTURE, capture_time_us=number * 33_333)
                assert isinstance(await anext(stream), MaskAnswer)
                if stream.resume_point is not None:
                    return stream.resume_point
                await asyncio.sleep(0.05)
    raise AssertionError("no resume point came")


async def test_a_stream_of_one_worker_goes_on_in_any(server: RunningServer, authority: Authority) -> None:
    assert server.log().count("event=resume_key_random") == 1
    point = await resume_point(server, authority)
    for _ in range(CONNECTIONS):
        async with client(server, authority, OTHERS) as caller, caller.stream(CONFIG, resume=point) as stream:
            assert stream.accepted.resume is ResumeOutcome.RESUMED
        if min(both(server, "humanseg_resumes_total", outcome="resumed")) > 0:
            return
    raise AssertionError("one worker gets everything")


async def test_the_streams_of_a_tenant_are_dealt_out(server: RunningServer, authority: Authority) -> None:
    refused = 0
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            caller = await stack.enter_async_context(client(server, authority, ACME))
            try:
                await stack.enter_async_context(caller.stream(CONFIG))
            except OverloadedError as error:
                assert error.reason == "TENANT_QUOTA"
                assert error.metadata == {"tenant_max_sessions": str(SHARE)}
                assert error.retryable
                refused += 1
            if both(server, "humanseg_sessions_active") == [SHARE, SHARE] and refused:
                break
        assert both(server, "humanseg_sessions_active") == [SHARE, SHARE]
        assert refused > 0
        async with client(server, authority, OTHERS) as caller, caller.stream(CONFIG):
            pass  # others are not held up


def ready(server: RunningServer) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/ready", timeout=limit_s(10)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


async def test_the_supervisor_says_whether_streams_are_taken(server: RunningServer, authority: Authority) -> None:
    assert await asyncio.to_thread(ready, server) == 200
    async with client(server, authority, OTHERS) as caller, caller.stream(CONFIG) as stream:
        server.terminate()
        async with asyncio.timeout(limit_s(20)):
            await anext(stream)  # the notice: the worker is there still, and takes no streams
        assert await asyncio.to_thread(ready, server) == 503
    assert await asyncio.to_thread(server.wait) == 0
