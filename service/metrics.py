"""Every metric of the service, and the ``/metrics`` endpoint. No label grows with the number of sessions."""

import platform
import socket
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

import humanseg
from engines.runner import RunnerInfo
from service.stages import STAGES, StageClock

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: Seconds; the edges at 8, 16.7 and 33.3 ms are the frame times of 120, 60 and 30 fps.
STAGE_EDGES_S = (
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.0125, 0.0167, 0.025, 0.0333, 0.05, 0.0667, 0.1, 0.2, 0.5, 1.0, 2.0,
)  # fmt: skip
BATCH_EDGES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """The metrics of one server process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        stage_seconds = Histogram(
            "humanseg_stage_seconds",
            "Time of a frame in a stage; total runs from arrival to the answer being ready",
            ["stage"],
            buckets=STAGE_EDGES_S,
            registry=self.registry,
        )
        stage_cpu = Counter(
            "humanseg_stage_cpu_seconds",
            "CPU time of the thread that ran a stage",
            ["stage"],
            registry=self.registry,
        )
        self._stage_seconds = {stage: stage_seconds.labels(stage) for stage in STAGES}
        self._stage_cpu = {stage: stage_cpu.labels(stage) for stage in STAGES}
        self._frames = Counter("humanseg_frames", "Frames answered", ["outcome", "reason"], registry=self.registry)
        self._masks = self._frames.labels("mask", "")
        self._estimates = self._frames.labels("estimate", "")
        self._resets = Counter("humanseg_fusion_resets", "Fusion states given up", ["reason"], registry=self.registry)
        self._resumes = Counter(
            "humanseg_resumes", "Streams that came with a resume token, by what became of it", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.resume_points = Counter("humanseg_resume_points", "Resume tokens given out", registry=self.registry)
        self.stills = Counter("humanseg_stills", "Still pictures answered", ["outcome"], registry=self.registry)
        self.sessions_active = Gauge("humanseg_sessions_active", "Streams open now", registry=self.registry)
        self.sessions_limit = Gauge("humanseg_sessions_limit", "Streams admitted at most", registry=self.registry)
        self.sessions_admitted = Counter("humanseg_sessions_admitted", "Streams admitted", registry=self.registry)
        self._refused = Counter(
            "humanseg_sessions_refused", "Streams refused at the door", ["reason"], registry=self.registry
        )
        self.sessions = Counter(
            "humanseg_sessions", "Streams ended or refused, by the reason of their status", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.first_mask_seconds = Histogram(
            "humanseg_first_mask_seconds",
            "From the opening of a stream to its first mask being ready",
            buckets=STAGE_EDGES_S,
            registry=self.registry,
        )
        self.write_seconds = Histogram(
            "humanseg_write_seconds", "How long an answer took to be handed to gRPC; grows where clients read slowly",
            buckets=STAGE_EDGES_S, registry=self.registry,
        )  # fmt: skip
        self.batch_frames = Histogram(
            "humanseg_batch_frames", "Frames in a run of the engine", ["model"], buckets=BATCH_EDGES,
            registry=self.registry,
        )  # fmt: skip
        self.loop_lag_seconds = Histogram(
            "humanseg_loop_lag_seconds", "By how much the event loop woke up late", buckets=STAGE_EDGES_S,
            registry=self.registry,
        )  # fmt: skip
        self._engine = Gauge(
            "humanseg_engine_info", "Models served and the engine in use", ["model", "version", "engine"],
            registry=self.registry,
        )  # fmt: skip
        build = Gauge(
            "humanseg_build_info", "Releases of the service and of what it runs on", ["version", "python", "grpc"],
            registry=self.registry,
        )  # fmt: skip
        build.labels(humanseg.__version__, platform.python_version(), grpc.__version__).set(1)
        self._ready = Gauge("humanseg_ready", "1 while new streams are taken", registry=self.registry)
        self.is_ready = False

    def set_ready(self, ready: bool) -> None:
        """Whether new streams are taken."""
        self.is_ready = ready
        self._ready.set(ready)

    def describe_engines(self, infos: Iterable[RunnerInfo]) -> None:
        """Show which engine serves which model."""
        for info in infos:
            self._engine.labels(info.model.name, info.model.version, info.engine).set(1)

    def frame_answered(self, clock: StageClock) -> None:
        """Count a mask and the time spent on it."""
        self._masks.inc()
        self.observe_stages(clock)

    def frame_estimated(self, clock: StageClock) -> None:
        """Count an estimate and the time spent on it."""
        self._estimates.inc()
        self.observe_stages(clock)

    def observe_stages(self, clock: StageClock) -> None:
        """Put the times of one picture into the histograms; a stage that did not run is left out."""
        for stage, wall_ns in clock.wall_ns.items():
            self._stage_seconds[stage].observe(wall_ns * 1e-9)
        for stage, cpu_ns in clock.cpu_ns.items():
            self._stage_cpu[stage].inc(cpu_ns * 1e-9)

    def frame_dropped(self, reason: str) -> None:
        """Count a frame without a mask."""
        self._frames.labels("dropped", reason.lower()).inc()

    def session_refused(self, reason: str) -> None:
        """Count a stream that was not admitted, here and among those that ended."""
        self._refused.labels(reason.lower()).inc()
        self.sessions.labels(reason.lower()).inc()

    def resume_asked(self, outcome: str) -> None:
        """Count a resume token that a client came with."""
        self._resumes.labels(outcome.lower()).inc()

    def fusion_reset(self, reason: str) -> None:
        """Count a fusion state given up."""
        self._resets.labels(reason.lower()).inc()


class MetricsEndpoint(AbstractContextManager["MetricsEndpoint"]):
    """``/metrics`` and ``/ready`` over HTTP in threads of their own.

    ``/ready`` is 200 while new streams are taken, else 503: for probes that cannot speak gRPC over TLS, such as
    Kubernetes' own.
    """

    def __init__(self, metrics: ServiceMetrics, host: str, port: int) -> None:
        """Start to listen; raises OSError where the port is taken."""
        exposition = make_wsgi_app(metrics.registry)

        def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            if environ.get("PATH_INFO") != "/ready":
                page: Iterable[bytes] = exposition(environ, start_response)
                return page
            is_ready = metrics.is_ready
            start_response("200 OK" if is_ready else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ready\n" if is_ready else b"not ready\n"]

        self._server = make_server(host, port, answer, _server_class(host, port), _QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # the name of the base class
        """No line a scrape."""


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ThreadedServer6(_ThreadedServer):
    address_family = socket.AF_INET6


def _server_class(host: str, port: int) -> type[WSGIServer]:
    """The one whose sockets take such addresses: IPv4 or IPv6."""
    family = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0][0]
    return _ThreadedServer6 if family == socket.AF_INET6 else _ThreadedServer
