"""The threads that the dispatcher works on."""

import threading
import time
import weakref

import pytest

from service.worker_threads import WorkerThreads
from support.timing import limit_s


class Item:
    def __init__(self) -> None:
        self.done = threading.Event()


def test_so_many_run_at_once_and_no_more_threads_are_started() -> None:
    meeting = threading.Barrier(3)
    names: set[str] = set()

    def work(item: Item) -> None:
        meeting.wait(limit_s(10))
        names.add(threading.current_thread().name)
        item.done.set()

    threads = WorkerThreads(3, "engine", work)
    for _ in range(2):
        items = [Item() for _ in range(3)]
        for item in items:
            threads.submit(item)
        assert all(item.done.wait(limit_s(10)) for item in items)
    assert names == {"engine_0", "engine_1", "engine_2"}
    threads.shutdown()


def test_shutdown_waits_for_what_was_taken_and_ends_the_threads() -> None:
    gate = threading.Event()
    done: list[int] = []

    def work(number: int) -> None:
        gate.wait(limit_s(10))
        done.append(number)

    before = threading.active_count()
    threads = WorkerThreads(1, "engine", work)
    for number in (1, 2, 3):
        threads.submit(number)
    closing = threading.Thread(target=threads.shutdown)
    closing.start()
    assert closing.is_alive()
    gate.set()
    closing.join(limit_s(10))
    assert done == [1, 2, 3]
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="engine threads were shut down"):
        threads.submit(4)


def test_an_item_is_let_go_when_it_is_done() -> None:
    """Items hold pictures of sessions that may be gone."""
    threads = WorkerThreads(1, "engine", lambda item: item.done.set())
    item = Item()
    gone, done = weakref.ref(item), item.done
    threads.submit(item)
    assert done.wait(limit_s(10))
    del item
    deadline = time.monotonic() + limit_s(5)
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert gone() is None, "the thread holds it until the next one comes"
    threads.shutdown()
