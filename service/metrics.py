"""Every metric of the service, and the ``/metrics`` endpoint. No label grows with the number of sessions."""

import platform
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

import humanseg
from engines.runner import RunnerInfo
from service.histograms import DurationCounter, DurationHistogram
from service.memory_limit import memory_limit_bytes
from service.stages import STAGES, StageClock

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: Seconds; the edges at 8, 16.7 and 33.3 ms are the frame times of 120, 60 and 30 fps.
STAGE_EDGES_S = (
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.0125, 0.0167, 0.025, 0.0333, 0.05, 0.0667, 0.1, 0.2, 0.5, 1.0, 2.0,
)  # fmt: skip
#: How long a scrape waits for one worker.
WORKER_TIMEOUT_S = 2.0
BATCH_EDGES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """The metrics of one server process, in a registry of their own. Frames are counted on one thread, the loop's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        stage_seconds = DurationHistogram(
            "humanseg_stage_seconds",
            "Time of a frame in a stage; total runs from arrival to the answer being ready",
            STAGE_EDGES_S,
            self.registry,
            label="stage",
            values=STAGES,
        )
        self._stage_cpu = DurationCounter(
            "humanseg_stage_cpu_seconds",
            "CPU time of the thread that ran a stage",
            self.registry,
            label="stage",
            values=STAGES,
        )
        self._stage_seconds = {stage: stage_seconds.series(stage) for stage in STAGES}
        self.live_frame_seconds = DurationHistogram(
            "humanseg_live_frame_seconds",
            "From arrival to the answer, of frames of live streams (policy NEWEST) with a mask or an estimate",
            STAGE_EDGES_S, self.registry,
        ).series()  # fmt: skip
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
        self.write_seconds = DurationHistogram(
            "humanseg_write_seconds", "How long an answer took to be handed to gRPC; grows where clients read slowly",
            STAGE_EDGES_S, self.registry,
        ).series()  # fmt: skip
        self.batch_frames = Histogram(
            "humanseg_batch_frames", "Frames in a run of the engine", ["model"], buckets=BATCH_EDGES,
            registry=self.registry,
        )  # fmt: skip
        self.loop_lag_seconds = Histogram(
            "humanseg_loop_lag_seconds", "By how much the event loop woke up late", buckets=STAGE_EDGES_S,
            registry=self.registry,
        )  # fmt: skip
        self._degraded = Gauge(
            "humanseg_sessions_degraded", "Streams served so many steps below what they asked for", ["level"],
            registry=self.registry,
        )  # fmt: skip
        self._degrade_steps = Counter(
            "humanseg_degrade_steps", "Steps of streams on the degrade ladder", ["direction"], registry=self.registry
        )
        self.live_load = Gauge(
            "humanseg_live_load_ratio", "Share of the engines' time that live streams take, as admission reckons",
            registry=self.registry,
        )  # fmt: skip
        self.trace_spans = Counter(
            "humanseg_trace_spans", "Spans that a collector took, and spans that were lost", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._file_refused = Gauge(
            "humanseg_file_refused", "1 while a changed file of secrets cannot be used, and what it said before holds",
            ["file"], registry=self.registry,
        )  # fmt: skip
        Gauge(
            "humanseg_memory_limit_bytes", "Memory at which the kernel ends the process",
            registry=self.registry,
        ).set(memory_limit_bytes())  # fmt: skip
        self._engine = Gauge(
            "humanseg_engine_info", "Models served, the engine in use and where it computes",
            ["model", "version", "engine", "device"],
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
        """Show which engine serves which model, and on what."""
        for info in infos:
            self._engine.labels(info.model.name, info.model.version, info.engine, info.device).set(1)

    def watch_file(self, file: str, is_refused: Callable[[], bool]) -> None:
        """Show whether a file of secrets is refused; asked at each scrape, on the thread of the endpoint."""
        self._file_refused.labels(file).set_function(lambda: float(is_refused()))

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
            self._stage_seconds[stage].observe_ns(wall_ns)
        for stage, cpu_ns in clock.cpu_ns.items():
            self._stage_cpu.add_ns(stage, cpu_ns)

    def frame_dropped(self, reason: str) -> None:
        """Count a frame without a mask."""
        self._frames.labels("dropped", reason.lower()).inc()

    def degraded(self, before: int, after: int) -> None:
        """Count a stream that goes from one level to another; 0 is as asked for."""
        if before == after:
            return
        if before:
            self._degraded.labels(str(before)).dec()
        if after:
            self._degraded.labels(str(after)).inc()

    def degrade_step(self, *, went_down: bool) -> None:
        """Count a step that the load made."""
        self._degrade_steps.labels("down" if went_down else "up").inc()

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


class SupervisorMetrics:
    """The metrics of several server processes as one page: each worker's own samples, with the label ``worker``.

    A worker that was started again begins at zero in its own series, which is what Prometheus takes for a restart; one
    sum over all would jump at every crash. Gauges of a worker that is gone are gone with it.
    """

    def __init__(self, workers: int) -> None:
        self.registry = CollectorRegistry()
        self._workers = workers
        self._ports: dict[int, int] = {}
        self._is_stopping = False
        Gauge("humanseg_workers", "Server processes asked for", registry=self.registry).set(workers)
        self._ready = Gauge("humanseg_workers_ready", "Server processes that take streams", registry=self.registry)
        self.restarts = Counter(
            "humanseg_worker_restarts", "Workers that ended and were started again", registry=self.registry
        )
        self.hangs = Counter(
            "humanseg_worker_hangs", "Workers killed because their event loop stood still", registry=self.registry
        )
        self.registry.register(self)

    def worker_is_ready(self, index: int, metrics_port: int) -> None:
        """Its metrics are at that port of the loopback."""
        self._ports[index] = metrics_port
        self._ready.set(len(self._ports))

    def worker_is_gone(self, index: int) -> None:
        """Nothing of it is to be shown any more."""
        self._ports.pop(index, None)
        self._ready.set(len(self._ports))

    def stop(self) -> None:
        """The workers drain from here on: new streams go elsewhere."""
        self._is_stopping = True

    @property
    def is_ready(self) -> bool:
        """Whether a new stream finds a worker that takes it; they are asked now, on the thread of the endpoint."""
        return not self._is_stopping and any(_says_ready(port) for port in list(self._ports.values()))

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the workers are asked."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The workers' families, asked for now; on the thread of the endpoint."""
        reachable = Metric("humanseg_worker_up", "1 if the metrics of this worker could be read", "gauge")
        families: dict[str, Metric] = {reachable.name: reachable}
        for index in range(self._workers):
            port = self._ports.get(index)
            if port is None:
                reachable.add_sample(reachable.name, {"worker": str(index)}, 0)
                continue
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WORKER_TIMEOUT_S) as answer:
                    page = answer.read().decode()
            except OSError:  # it just ended, or hangs: the others are still to be seen
                reachable.add_sample(reachable.name, {"worker": str(index)}, 0)
                continue
            reachable.add_sample(reachable.name, {"worker": str(index)}, 1)
            for family in text_string_to_metric_families(page):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, "worker": str(index)}, sample.value)
        return families.values()


def _says_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=WORKER_TIMEOUT_S):
            return True
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:  # it just ended, or hangs: another one may serve
        pass
    return False


class MetricsEndpoint(AbstractContextManager["MetricsEndpoint"]):
    """``/metrics`` and ``/ready`` over HTTP in threads of their own.

    ``/ready`` is 200 while new streams are taken, else 503: for probes that cannot speak gRPC over TLS, such as
    Kubernetes' own.
    """

    def __init__(self, metrics: ServiceMetrics | SupervisorMetrics, host: str, port: int) -> None:
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
