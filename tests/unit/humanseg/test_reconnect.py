"""When another stream is tried, and that a look at the next frame which is given up loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from humanseg.access import TlsFiles, call_metadata
from humanseg.errors import InvalidRequestError, OverloadedError, ServerUnavailableError
from humanseg.frames import TimedFrame
from humanseg.reconnect import FrameSource, Patience
from humanseg.vision.arrays import Picture

GONE = ServerUnavailableError("gone", code=grpc.StatusCode.UNAVAILABLE)


def test_delays_grow_and_a_success_brings_hope_back() -> None:
    patience = Patience(3600)
    assert patience.delay_s(GONE) is None, "a first stream that fails is for the caller to see"
    patience.succeeded()
    delays = [patience.delay_s(GONE) or 0 for _ in range(8)]
    assert 0.07 < delays[0] < 0.13
    assert all(1.5 <= delay <= 2.5 for delay in delays[5:])
    patience.succeeded()
    assert (patience.delay_s(GONE) or 0) < 0.13


def test_the_servers_own_word_counts_and_faults_of_ours_are_not_tried_again() -> None:
    patience = Patience(3600)
    patience.succeeded()
    full = OverloadedError("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=40.0)
    assert 30 <= (patience.delay_s(full) or 0) <= 50
    assert patience.delay_s(InvalidRequestError("no", code=grpc.StatusCode.INVALID_ARGUMENT)) is None


def test_patience_ends() -> None:
    patience = Patience(0)
    patience.succeeded()
    assert patience.delay_s(GONE) is None


async def test_a_look_that_is_given_up_loses_nothing() -> None:
    picture = np.zeros((1, 1, 3), np.uint8)
    gate = asyncio.Event()

    async def frames() -> AsyncIterator[TimedFrame | Picture]:
        yield picture
        await gate.wait()
        yield TimedFrame(picture, 77)

    source: FrameSource[Picture] = FrameSource(frames(), 1000.4)  # type: ignore[arg-type]
    first = await source.peek()
    assert first is picture
    assert await source.peek() is picture, "it stays the next one"
    assert source.take(first).capture_time_us == 0
    looking = asyncio.ensure_future(source.peek())
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking])
    gate.set()
    second = await source.peek()
    assert second is not None
    taken = source.take(second)
    assert (taken.capture_time_us, taken.picture is picture) == (77, True)
    assert await source.peek() is None
    await source.aclose()


def test_credentials_of_half_a_pair_and_tokens_that_no_header_carries(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong together"):
        TlsFiles(certificate=tmp_path / "client.pem").credentials()
    with pytest.raises(OSError, match="nothing"):
        TlsFiles(authority=tmp_path / "nothing").credentials()
    assert call_metadata(None) is None
    assert call_metadata(" abc ") == (("authorization", "Bearer abc"),)
    for token in ("", " ", "two\nlines", "snö"):
        with pytest.raises(ValueError, match="token") as caught:
            call_metadata(token)
        assert "two" not in str(caught.value)
