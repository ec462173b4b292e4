"""A place for one thing: who comes late finds the newest, and what nobody took in time is gone."""

import asyncio
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Closed(Exception):
    """Nothing more comes."""


class Newest(Generic[Thing]):
    """Between a task that must not wait and one that takes what it can; live video grows late in any queue."""

    def __init__(self) -> None:
        self._things: list[Thing] = []
        self._is_closed = False
        self._news = asyncio.Event()

    def put(self, thing: Thing) -> None:
        """Leave it there instead of the one that lies there."""
        self._things[:] = [thing]
        self._news.set()

    def close(self) -> None:
        """Nothing more comes; what lies there may still be taken."""
        self._is_closed = True
        self._news.set()

    async def take(self) -> Thing:
        """Wait for one and take it.

        Raises:
            Closed: there will be none.
        """
        while not self._things:
            if self._is_closed:
                raise Closed
            self._news.clear()
            await self._news.wait()
        return self._things.pop()
