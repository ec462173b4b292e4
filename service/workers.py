"""Several server processes behind one port: started, watched, restarted, drained, and shown as one on ``/metrics``.

The supervisor serves nothing itself. It holds the port by a socket that does not listen, so that it stays ours whatever
becomes of the workers, which each listen on it by SO_REUSEPORT: the kernel deals new connections out to those that do.
Workers are started by exec, never by fork (grpc does not survive one), in sessions of their own (Ctrl-C reaches the
supervisor alone), and hold the other end of a pipe: when the supervisor is gone, they drain and end by themselves.
Nothing is written to disk.
"""

import asyncio
import json
import logging
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import replace
from typing import Any

from service import log
from service.heartbeat import fell_silent
from service.metrics import MetricsEndpoint, SupervisorMetrics
from service.resume import make_key
from service.server import ANSWER_GRACE_S, STOP_GRACE_S, ListenError, end_hard, open_endpoint, stop_on_signals
from service.settings import Settings

#: A worker that ends sooner than this after its start is not started again at once.
SHORT_LIFE_S = 10.0
LONGEST_DELAY_S = 30.0
#: What a worker may need to end beyond its drain, before it is killed.
END_MARGIN_S = 10.0


def restart_delay_s(short_lives: int) -> float:
    """How long to wait before another start, after so many short lives in a row."""
    return 0.0 if short_lives == 0 else min(LONGEST_DELAY_S, 2.0 ** (short_lives - 1))


def worker_settings(settings: Settings, port: int) -> Settings:
    """A worker's share of what is set for all: threads and sessions are dealt out, rounded up."""
    workers = settings.workers
    return replace(
        settings,
        workers=1,
        port=port,
        metrics_port=0,
        runners=-(-settings.runner_threads // workers),
        max_sessions=-(-settings.max_sessions // workers),
        max_stills=-(-settings.max_stills // workers),
    )


def reserve_port(host: str, port: int) -> socket.socket:
    """A bound socket that never listens; its port is the workers' until it is closed.

    Raises:
        ListenError: somebody else has the port.
    """
    bare_host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bare_host, port, type=socket.SOCK_STREAM)[0]
        # SO_REUSEPORT would let us in beside another server of the same user: first without it, as that one would see.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        reserved = socket.socket(family, kind, protocol)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as error:
        text = f"cannot listen on {host}:{port} ({error.strerror}); is another server there? choose --port"
        raise ListenError(text) from None
    return reserved


class WorkerFailed(Exception):
    """A worker ended before it was ready for the first time; its own log line says why."""


class Supervisor:
    """Keeps the workers of one server running."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = SupervisorMetrics(settings.workers)
        # It goes to the workers over a pipe: neither command lines nor environments show it.
        self._resume_key = b"" if settings.resume_key_file else make_key()
        self._processes: dict[int, Process] = {}
        self._ready = [asyncio.Event() for _ in range(settings.workers)]
        self._stopping = asyncio.Event()
        self._clean = True

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain all workers; the exit status.

        Raises:
            ListenError: a port cannot be had.
            WorkerFailed: a worker could not start.
        """
        settings = self._settings
        with reserve_port(settings.host, settings.port) as reserved, self._endpoint() as endpoint:
            port = int(reserved.getsockname()[1])
            stop = stop_on_signals(self._end_hard)
            keepers = [asyncio.create_task(self._keep(index, port)) for index in range(settings.workers)]
            try:
                await self._wait_until_ready(keepers, stop)
                if not stop.done():
                    log.event(
                        "ready", host=settings.host, port=port, metrics_port=endpoint.port, engine=settings.engine,
                        workers=settings.workers, runners=worker_settings(settings, port).runners,
                    )  # fmt: skip
                log.event("workers_stopping", signal=await stop, drain_s=settings.drain_s)
            finally:
                await self._stop(keepers)
        log.event("workers_stopped", clean=self._clean)
        return 0 if self._clean else 1

    def _endpoint(self) -> MetricsEndpoint:
        return open_endpoint(self._metrics, self._settings.host, self._settings.metrics_port)

    async def _wait_until_ready(self, keepers: "list[asyncio.Task[None]]", stop: "asyncio.Future[str]") -> None:
        all_ready = asyncio.gather(*(event.wait() for event in self._ready))
        awaited: list[asyncio.Future[Any]] = [all_ready, stop, *keepers]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        all_ready.cancel()
        await asyncio.gather(all_ready, return_exceptions=True)
        for keeper in keepers:
            if keeper.done():
                keeper.result()  # raises WorkerFailed

    async def _keep(self, index: int, port: int) -> None:
        """Start the worker again whenever it ends, until everything stops."""
        short_lives = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._live(index, port)
            if self._stopping.is_set():
                self._clean = self._clean and status in (0, -signal.SIGTERM)
                return
            if not self._ready[index].is_set():
                raise WorkerFailed(f"worker {index} ended with status {status} before it was ready; see its log lines")
            life_s = time.monotonic() - began
            short_lives = short_lives + 1 if life_s < SHORT_LIFE_S else 0
            delay_s = restart_delay_s(short_lives)
            self._metrics.restarts.inc()
            log.event(
                "worker_ended", level=logging.ERROR, worker=index, status=status,
                life_s=round(life_s, 1), restart_in_s=delay_s,
            )  # fmt: skip
            try:
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _live(self, index: int, port: int) -> int:
        """One life of a worker; its exit status."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.worker", stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True
        )
        self._processes[index] = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            plan = {
                "index": index,
                "count": self._settings.workers,
                "resume_key": self._resume_key.hex(),
                "settings": worker_settings(self._settings, port).to_plain(),
            }
            process.stdin.write(json.dumps(plan).encode() + b"\n")
            line = await process.stdout.readline()
            if line:
                self._metrics.worker_is_ready(index, int(line))
                self._ready[index].set()
                await self._watch(index, process)
            return await process.wait()
        finally:
            self._metrics.worker_is_gone(index)
            process.stdin.close()
            del self._processes[index]

    async def _watch(self, index: int, process: Process) -> None:
        """Kill the worker if its event loop stands still; returns once it was killed, ends, or all are to end."""
        assert process.stdout is not None
        silent_s = await fell_silent(process.stdout, self._settings.worker_silence_s)
        if silent_s is None or self._stopping.is_set():  # then `_stop` decides how long it may take
            return
        self._metrics.hangs.inc()
        log.event("worker_hung", level=logging.ERROR, worker=index, pid=process.pid, silent_s=silent_s)
        process.kill()  # a process that is stopped heeds nothing less

    async def _stop(self, keepers: "list[asyncio.Task[None]]") -> None:
        self._stopping.set()
        self._metrics.stop()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        grace_s = self._settings.drain_s + ANSWER_GRACE_S + STOP_GRACE_S + END_MARGIN_S
        _, unfinished = await asyncio.wait(keepers, timeout=grace_s)
        if unfinished:
            for index in self._processes:
                log.event("worker_killed", level=logging.WARNING, worker=index, after_s=grace_s)
            self._kill_all()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _end_hard(self, number: signal.Signals) -> None:
        self._kill_all()
        end_hard(number)

    def _kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()


def run_workers(settings: Settings) -> int:
    """Supervise until told to stop; the exit status."""
    try:
        return asyncio.run(Supervisor(settings).run())
    except (ListenError, WorkerFailed) as error:
        log.event("start_failed", level=logging.ERROR, reason=str(error))
        return 1
