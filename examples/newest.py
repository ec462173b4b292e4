"""A place for one thing: who comes late finds the newest, and what nobody took in time is gone."""

import asyncio
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Newest(Generic[Thing]):
    """Between a task that must not wait and one that takes what it can; live video grows late in any queue."""

    def __init__(self) -> None:
        self._things: list[Thing] = []
        self._filled = asyncio.Event()

    def put(self, thing: Thing) -> None:
        """Leave it there instead of the one that lies there."""
        self._things[:] = [thing]
        self._filled.set()

    async def take(self) -> Thing:
        """Wait for one and take it."""
        while not self._things:
            self._filled.clear()
            await self._filled.wait()
        return self._things.pop()
