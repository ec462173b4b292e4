"""Threads that take work from a queue: what is needed of a thread pool here, at a fraction of its cost.

`concurrent.futures.ThreadPoolExecutor` makes a future with a condition, a work item and three locks for each call, and
walks them all again when the call returns. The dispatcher has futures of its own, counts free threads itself, and its
work never raises.
"""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WorkerThreads(Generic[Item]):
    """At most ``count`` threads, started as work comes; each takes an item, works on it, and takes the next."""

    def __init__(self, count: int, name: str, work: Callable[[Item], None]) -> None:
        """Nothing is started yet.

        Args:
            count: threads at most.
            name: what they are called, with a number behind it.
            work: what is done with an item; must not raise.
        """
        self._count = count
        self._name = name
        self._work = work
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_shut = False

    def submit(self, item: Item) -> None:
        """Have an item worked on. From one thread only.

        Raises:
            RuntimeError: the system gives no thread, or `shutdown` was called; the item is not taken.
        """
        if self._is_shut:
            raise RuntimeError(f"the {self._name} threads were shut down; nothing is taken any more")
        if len(self._threads) < self._count:
            # A daemon, so that a process which dies of an error does not wait for work that nobody will submit.
            thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._items.put(item)

    def shutdown(self) -> None:
        """Take no more items, and return once all that were taken are done and the threads have ended."""
        self._is_shut = True
        for _ in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        get, work = self._items.get, self._work
        while (item := get()) is not None:
            work(item)
            del item  # an item holds pictures: not until the next one comes
