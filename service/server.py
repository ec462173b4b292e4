"""The only assembler: models, dispatcher, servicer, health, reflection, metrics, signals and the drain."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from humanseg.v1 import segmentation_pb2 as pb
from service import log
from service.access import Gate
from service.admission import Admission, AdmissionRules
from service.dispatcher import Dispatcher
from service.engine_watch import watch_engine
from service.estimator import Estimator
from service.health import Health
from service.metrics import MetricsEndpoint, ServiceMetrics, SupervisorMetrics
from service.models import ModelCatalog
from service.resume import Keys, Sealer
from service.roster import Roster
from service.rpc import SegmentationServicer, register
from service.session_door import SessionDoor
from service.settings import Settings
from service.stills import StillDesk
from service.stream_config import SizeLimits
from service.tls import TlsFiles, server_credentials, watch
from service.tracing import open_tracing
from service.unix_socket import SocketRefused, listening_on

if TYPE_CHECKING:
    from service.kserve import KserveServicer

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["SegmentationService"].full_name
#: How long what was accepted may take to be answered, once streams are no longer served; then how long the last calls
#: (stills, and statuses on their way) have before they are cut off.
ANSWER_GRACE_S = 5.0
STOP_GRACE_S = 5.0
LOOPBACK = "127.0.0.1"
LOOP_LAG_INTERVAL_S = 0.25


class ListenError(Exception):
    """The port cannot be had."""


class KserveUnavailableError(Exception):
    """KServe's protocol was asked for and cannot be served."""


@dataclass(frozen=True, slots=True)
class WorkerSeat:
    """A server's place among several behind one port (`service.workers`)."""

    index: int
    count: int
    """How many there are."""
    resume_key: bytes
    """Signs resume tokens where no file has keys: what one worker gave out holds for the others."""
    on_ready: Callable[[int], None]
    """Called with the port of its own metrics, on the loopback, once it takes streams."""


def channel_options(settings: Settings, *, shares_port: bool) -> list[tuple[str, int]]:
    """Options of the gRPC server; why each is there stands in docs/design.md."""
    return [
        # gRPC's default of 4 MiB refuses a 1080p RGB frame; this is also the memory that one message can claim.
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A second server on the same port would go unnoticed and take half of the connections; workers mean to.
        ("grpc.so_reuseport", int(shares_port)),
        # Clients behind mobile networks ping every few seconds; gRPC's default (5 minutes) answers that with GOAWAY.
        ("grpc.keepalive_permit_without_calls", 1),
        # The name that grpcio 1.85 heeds; that of gRPC's own documents (min_recv_ping_...) does nothing there.
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(settings.min_ping_interval_s)),
        # A client that vanished without a FIN is found by our own pings.
        ("grpc.keepalive_time_ms", _ms(settings.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(settings.keepalive_timeout_s)),
        # grpcio 1.85 waits this long for the answer (a minute if it is not set), whatever the line above says.
        ("grpc.http2.ping_timeout_ms", _ms(settings.keepalive_timeout_s)),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


async def serve(settings: Settings, catalog: ModelCatalog, seat: WorkerSeat | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; returns when everything is stopped.

    Raises:
        ListenError: a port cannot be had.
        SecretFileError: a file of keys cannot be used.
        KserveUnavailableError: KServe's protocol is asked for, and cannot be served.
        TracingUnavailableError: traces are asked for, and what they need is not installed.
    """
    metrics = ServiceMetrics()
    tracing = open_tracing(settings, catalog.infos, metrics, seat.index if seat else None)
    metrics.describe_engines(catalog.infos)
    limits = SizeLimits(settings.max_frame_bytes, settings.max_frame_px, settings.max_side_px)
    dispatcher = Dispatcher(catalog, limits, metrics, threads=settings.runner_threads)
    estimator = Estimator(catalog, limits, threads=settings.runner_threads)
    roster = Roster(metrics, settings.max_sessions)
    versions = {info.model.name: info.model.version for info in catalog.infos}
    keys = Keys(settings.resume_key_file, seat.resume_key if seat else None)
    sealer = Sealer(keys, settings.resume_max_age_s, versions)
    gate = Gate(settings.auth_tokens_file, workers=seat.count if seat else 1)
    server = grpc.aio.server(options=channel_options(settings, shares_port=seat is not None))
    admission = Admission(AdmissionRules(settings.admission_load, settings.admission_fps, settings.runner_threads))
    door = SessionDoor(settings, catalog, dispatcher, estimator, roster, metrics, limits, admission, sealer, tracing)
    stills = StillDesk(dispatcher, metrics, limits, settings.max_stills)
    servicer = SegmentationServicer(settings, catalog, limits, gate, door, stills)
    register(servicer, server)
    kserve = _open_kserve(settings, catalog, metrics, limits, gate, door, stills)
    names = [SERVICE_NAME]
    if kserve is not None:
        kserve.register(server)
        names.append(kserve.full_name)
    health_servicer = Health(("", *names))
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _listen(server, settings, metrics)
    for name, file in (("auth_tokens", gate.file), ("resume_key", keys.file)):
        if file is not None:
            metrics.watch_file(name, file.is_refused)
    metrics_host = settings.host if seat is None else LOOPBACK
    with (
        open_endpoint(metrics, metrics_host, settings.metrics_port) as endpoint,
        _listening_on_socket(server, settings.socket_file),
    ):
        stop = stop_on_signals() if seat is None else stop_on_signals(ignore_signal)
        await server.start()

        async def show_ready(ready: bool) -> None:
            health_servicer.show(serving=ready)
            metrics.set_ready(ready)

        await show_ready(True)
        models = ",".join(f"{info.model.name}@{info.model.version}" for info in catalog.infos)
        if seat is None:
            log.event(
                "ready", host=settings.host, port=port, metrics_port=endpoint.port, engine=settings.engine,
                device=catalog.infos[0].device, runners=settings.runner_threads, models=models,
            )  # fmt: skip
        else:
            log.event("worker_ready", pid=os.getpid(), metrics_port=endpoint.port, models=models)
            seat.on_ready(endpoint.port)
        lag = asyncio.create_task(_measure_load(metrics, admission))
        watches = [
            asyncio.create_task(watch_engine(catalog, show_ready)),
            asyncio.create_task(_stop_serving_without_engine(dispatcher, show_ready)),
        ]
        signal_name = await stop
        await _cancel(watches)
        metrics.set_ready(False)
        log.event("draining", signal=signal_name, sessions=len(roster), drain_s=settings.drain_s)
        health_servicer.show(serving=False)
        if kserve is not None:
            kserve.drain()
        await _drain(roster, settings.drain_s)
        health_servicer.end_watches()
        await server.stop(STOP_GRACE_S)
        if kserve is not None:
            await kserve.close()
        await _cancel([lag])
        dispatcher.close()
        estimator.close()
        tracing.close()
    log.event("stopped", sessions_cut=len(roster))


def _open_kserve(
    settings: Settings,
    catalog: ModelCatalog,
    metrics: ServiceMetrics,
    limits: SizeLimits,
    gate: Gate,
    door: SessionDoor,
    stills: StillDesk,
) -> "KserveServicer | None":
    if not settings.kserve:
        return None
    try:
        from service.kserve import KserveServicer
    except (ImportError, RuntimeError) as error:  # tritonclient itself raises a RuntimeError where it lacks a part
        what = error.name if isinstance(error, ImportError) else error
        raise KserveUnavailableError(
            f"--kserve needs a package that is not installed: {what}; install `humanseg[triton]`, or leave it out"
        ) from error
    try:
        return KserveServicer(settings, catalog, metrics, limits, gate, door, stills)
    except ValueError as error:
        raise KserveUnavailableError(str(error)) from None


@contextlib.contextmanager
def _listening_on_socket(server: grpc.aio.Server, path: Path | None) -> Iterator[None]:
    try:
        with listening_on(server, path):
            yield
    except SocketRefused as error:
        raise ListenError(str(error)) from None


def _listen(server: grpc.aio.Server, settings: Settings, metrics: ServiceMetrics) -> int:
    """The TCP port taken; 0 where none is wanted."""
    if not settings.tcp:
        return 0
    address = f"{settings.host}:{settings.port}"
    credentials = None
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        files = TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
        watched = watch(files)
        metrics.watch_file("tls", watched.is_refused)
        credentials = server_credentials(watched, asks_clients=files.client_authority is not None)
    elif settings.auth_tokens_file is not None:
        log.event("tokens_in_the_clear", level=logging.WARNING, why="no --tls-cert-file: encrypt in front of this port")
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {address} ({error}); is another server there? choose --port") from None
    if port == 0:
        raise ListenError(f"cannot listen on {address}; is another server there? choose --port")
    return port


def open_endpoint(metrics: ServiceMetrics | SupervisorMetrics, host: str, port: int) -> MetricsEndpoint:
    """Show the metrics.

    Raises:
        ListenError: the port cannot be had.
    """
    try:
        return MetricsEndpoint(metrics, host, port)
    except OSError as error:
        address = f"{host}:{port}"
        raise ListenError(f"cannot serve metrics on {address} ({error.strerror}); choose --metrics-port") from None


def end_hard(number: signal.Signals) -> None:
    """End this process by a signal, as if nobody had caught it."""
    asyncio.get_running_loop().remove_signal_handler(number)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def ignore_signal(_number: signal.Signals) -> None:
    """A worker may be told twice, by its supervisor and by whoever tells them all; the supervisor decides the rest."""


def stop_on_signals(on_second: Callable[[signal.Signals], None] = end_hard) -> "asyncio.Future[str]":
    """Resolved with the signal's name; further signals go to ``on_second``."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if stop.done():
            on_second(number)
        else:
            stop.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _drain(roster: Roster, drain_s: float) -> None:
    """Let the open sessions end by themselves; those that do not are cut off with a log line."""
    try:
        # The sessions end themselves at drain_s; the time beyond it is for their last answers.
        async with asyncio.timeout(drain_s + ANSWER_GRACE_S):
            await roster.drain(drain_s)
    except TimeoutError:
        log.event("drain_incomplete", level=logging.WARNING, sessions=len(roster))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _stop_serving_without_engine(dispatcher: Dispatcher, show: Callable[[bool], Awaitable[None]]) -> None:
    """Only a restart helps then: liveness has to fail as well as readiness."""
    model, error = await asyncio.shield(dispatcher.engine_lost)
    log.event("engine_lost", level=logging.ERROR, model=model, why=str(error))
    await show(False)


async def _measure_load(metrics: ServiceMetrics, admission: Admission) -> None:
    """A late wake-up means that something held the event loop: the first thing to look at when p99 grows."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOP_LAG_INTERVAL_S)
            metrics.live_load.set(admission.load(time.monotonic_ns()))
            metrics.loop_lag_seconds.observe(max(0.0, time.monotonic() - before - LOOP_LAG_INTERVAL_S))
