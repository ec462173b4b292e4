"""An event loop in a thread of its own, for programs that have none: what `humanseg.blocking` runs the client on.

grpc.aio shows the events of all channels of a process to every event loop in it, and each loop but one then wakes up
for nothing (grpc issue 25364). So all blocking clients of a process share one loop, which is there from the first one
opened to the last one closed.
"""

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, Protocol, TypeVar

import grpc

from humanseg.errors import CallCancelledError

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class LoopStopped(RuntimeError):
    """The event loop was stopped: the client is closed."""


def runs_loop_here() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def require_no_loop_here(what: str) -> None:
    """Refuse to block an event loop: whoever waits on it would wait, and the client's own would wait for ever.

    Raises:
        RuntimeError: an event loop runs in this thread.
    """
    if runs_loop_here():
        raise RuntimeError(
            f"{what} would block the event loop that runs in this thread; use SegmentationClient here, or call it in"
            " another thread (asyncio.to_thread)"
        )


class LoopThread:
    """A running event loop; any thread may call into it."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError, RuntimeError: the system has no thread or no descriptor left.
        """
        self._process_id = os.getpid()
        # Nothing is handed in after the loop was told to stop: nobody would be left to answer.
        self._handing_in = threading.Lock()
        self._is_stopping = False
        self._kept: set[asyncio.Task[None]] = set()
        self._stop: asyncio.Event
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon: a program that ends without closing its client must not wait for it; `SharedLoopThread` closes it.
        self._thread = threading.Thread(target=self._run, args=(started,), name="humanseg-client", daemon=True)
        self._thread.start()
        self._loop = started.result()

    @property
    def belongs_to_this_process(self) -> bool:
        """False in a process that was forked off meanwhile: threads stay behind."""
        return self._process_id == os.getpid()

    def call(
        self, function: Callable[Parameters, Awaitable[Value]], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value:
        """Run a coroutine function on the loop, and wait for what comes of it.

        Where the waiting is broken off (KeyboardInterrupt) the coroutine is cancelled, and has ended when this raises.

        Raises:
            CallCancelledError: the loop was stopped meanwhile.
            LoopStopped, RuntimeError: it was stopped before, or runs in another process.
            Whatever the function raises.
        """
        if not self.belongs_to_this_process:
            raise RuntimeError(
                f"the client was opened in process {self._process_id}, before a fork; open another one in this process"
            )
        outcome: Future[Value] = Future()
        task: asyncio.Task[Value] | None = None

        async def work() -> Value:
            return await function(*args, **kwargs)

        def start() -> None:
            nonlocal task
            task = self._loop.create_task(work())
            task.add_done_callback(lambda done: _hand_over(done, outcome))

        def cancel() -> None:
            if task is not None:
                task.cancel()

        with self._handing_in:
            if self._is_stopping:
                raise LoopStopped("the client is closed")
            self._loop.call_soon_threadsafe(start)
        try:
            return outcome.result()
        finally:
            if not outcome.done():
                with contextlib.suppress(RuntimeError):  # the loop has just ended, and the task with it
                    self._loop.call_soon_threadsafe(cancel)
                wait([outcome])

    def finish(self, close: Callable[[], Awaitable[None]]) -> None:
        """Run what closes something, and wait for it; in a thread that runs an event loop, without waiting.

        Does nothing once the loop was stopped: that has ended everything on it.
        """

        async def work() -> None:
            await close()

        if not self.belongs_to_this_process:
            return
        if runs_loop_here():
            with self._handing_in:
                if not self._is_stopping:
                    self._loop.call_soon_threadsafe(lambda: self._keep(self._loop.create_task(work())))
            return
        if not self._is_stopping:
            # Stopped by another thread just now.
            with contextlib.suppress(LoopStopped, CallCancelledError):
                self.call(close)

    def stop(self) -> None:
        """Cancel what is still under way, and end the thread. A second call waits for the first one's work."""
        with self._handing_in:
            if not self._is_stopping:
                self._is_stopping = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _keep(self, task: "asyncio.Task[None]") -> None:
        # The loop itself holds tasks only weakly.
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _run(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        try:
            # Its exit cancels all tasks, ends the generators and waits for the loop's own worker threads.
            with asyncio.Runner() as runner:
                runner.run(self._stay(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _stay(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_ignore_wake_ups_for_nothing)
        self._stop = asyncio.Event()
        started.set_result(loop)
        await self._stop.wait()


class Closable(Protocol):
    """What is closed when the interpreter ends."""

    def close(self) -> None:
        """Let go of everything."""
        ...


class SharedLoopThread:
    """One `LoopThread` for all who use one, there while anybody does. Who has not left when Python ends is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._users: set[Closable] = set()

    def enter(self, user: Closable) -> LoopThread:
        """The loop, started if this is its first user.

        Raises:
            OSError, RuntimeError: see `LoopThread`.
        """
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread()
            self._users.add(user)
            return self._thread

    def leave(self, user: Closable) -> None:
        """Stop the loop if this was its last user; a second call does nothing."""
        last = None
        with self._lock:
            if user in self._users:
                self._users.remove(user)
                if not self._users:
                    last, self._thread = self._thread, None
        if last is not None:
            last.stop()

    def close_all(self) -> None:
        """Close all who have not left."""
        for user in list(self._users):
            user.close()

    def forget(self) -> None:
        """In a process that was forked off: the thread is not there."""
        self._lock, self._thread, self._users = threading.Lock(), None, set()


#: The loop of this process: a second one would make both wake up for nothing, see above.
SHARED = SharedLoopThread()
# After the program's last line, and before daemon threads are stopped wherever they stand.
atexit.register(SHARED.close_all)
os.register_at_fork(after_in_child=SHARED.forget)


def _hand_over(done: "asyncio.Task[Value]", outcome: "Future[Value]") -> None:
    if done.cancelled():
        outcome.set_exception(CallCancelledError("the client was closed here", code=grpc.StatusCode.CANCELLED))
    elif (error := done.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())


def _ignore_wake_ups_for_nothing(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Leave out what grpc.aio raises in a loop that woke up for the events of another one (grpc issue 25364)."""
    is_of_the_poller = "PollerCompletionQueue" in repr(context.get("handle"))
    if not (isinstance(context.get("exception"), BlockingIOError) and is_of_the_poller):
        loop.default_exception_handler(context)
