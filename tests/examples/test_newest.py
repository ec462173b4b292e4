"""The place for one thing."""

import asyncio

import pytest

from examples.newest import Closed, Newest


async def test_the_newest_is_taken_and_the_others_are_gone() -> None:
    place: Newest[int] = Newest()
    place.put(1)
    place.put(2)
    assert await place.take() == 2
    taking = asyncio.create_task(place.take())
    await asyncio.sleep(0)
    assert not taking.done()
    place.put(3)
    assert await taking == 3


async def test_who_waits_is_told_when_it_is_closed() -> None:
    place: Newest[int] = Newest()
    taking = asyncio.create_task(place.take())
    await asyncio.sleep(0)
    place.close()
    with pytest.raises(Closed):
        await taking


async def test_what_lay_there_when_it_was_closed_may_still_be_taken() -> None:
    place: Newest[int] = Newest()
    place.put(1)
    place.close()
    assert await place.take() == 1
    with pytest.raises(Closed):
        await place.take()
