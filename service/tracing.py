"""OpenTelemetry traces, an extra: a span a stream, and for some of its frames a span with its stages as children.

Off by default, and then nothing of OpenTelemetry is imported. Spans are made from the frame's clock after its answer
was written, and wait in a bounded queue for a thread that sends them: a collector that is slow or gone costs spans,
which are counted, and never a frame its time.
"""

import logging
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import humanseg
from engines.runner import RunnerInfo
from service.answers import Answer, DropAnswer, EstimateAnswer, MaskAnswer
from service.call_errors import Reason
from service.metrics import ServiceMetrics
from service.session import Session
from service.settings import Settings
from service.span_sender import SendError, SpanSender
from service.stages import StageClock
from service.stream_protocol import DropReason

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Tracer

EXTRA = "otel"
SERVICE = "humanseg.v1.SegmentationService"
#: How long one batch may take, tries included; meanwhile the queue fills.
EXPORT_TIMEOUT_S = 3.0
#: The W3C's names; gRPC's metadata is lower case.
_CARRIED = ("traceparent", "tracestate")

_Sender = SpanSender["ReadableSpan"]
Metadata = Iterable[tuple[str, str | bytes]]


class TracingUnavailableError(Exception):
    """Tracing was asked for and its packages are not there."""


class StreamTrace:
    """What becomes of a stream that is not traced: nothing."""

    @property
    def ids(self) -> Mapping[str, str]:
        """``trace_id`` and ``span_id`` for the log, nothing where there is no span."""
        return {}

    def answered(self, reply: Answer) -> None:
        """An answer was handed to gRPC."""

    def ended(self, session: Session, outcome: str) -> None:
        """The stream is over; ``outcome`` as in the log."""


_UNTRACED = StreamTrace()


class Tracing:
    """Where streams get their traces; without an endpoint none is traced."""

    def stream(self, metadata: Metadata, session_id: str) -> StreamTrace:
        """The trace of a stream that begins; it continues the ``traceparent`` in the client's metadata."""
        return _UNTRACED

    def close(self) -> None:
        """Send what is left, as far as there is time."""


def open_tracing(
    settings: Settings, infos: Sequence[RunnerInfo], metrics: ServiceMetrics, worker: int | None
) -> Tracing:
    """Get ready to trace as the settings ask.

    Args:
        settings: with ``trace_endpoint`` as None nothing is traced.
        infos: the engines in use.
        metrics: counts the spans.
        worker: which of several processes this is.

    Raises:
        TracingUnavailableError: naming the extra that is missing.
    """
    if settings.trace_endpoint is None:
        return Tracing()
    try:
        return _OtlpTracing(settings, settings.trace_endpoint, infos, metrics, worker)
    except ImportError as error:
        raise TracingUnavailableError(
            f"--trace-endpoint {settings.trace_endpoint} needs a package that is not installed: {error.name};"
            f" install `humanseg[{EXTRA}]`, or leave the endpoint out"
        ) from error


class _OtlpTracing(Tracing):
    """Traces a share of the streams and sends the spans to an OTLP collector by gRPC."""

    def __init__(
        self,
        settings: Settings,
        endpoint: str,
        infos: Sequence[RunnerInfo],
        metrics: ServiceMetrics,
        worker: int | None,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        who = {} if worker is None else {"humanseg.worker": worker}
        resource = Resource.create({"service.name": "humanseg", "service.version": humanseg.__version__, **who})
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)), resource=resource, shutdown_on_exit=False
        )
        self._tracer = provider.get_tracer("humanseg.service", humanseg.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._frame_ratio = settings.trace_frame_ratio
        self._models = {info.model.name: info for info in infos}
        exporter = _Exporter(endpoint)
        self._sender: _Sender = SpanSender(exporter.send, exporter.break_off, endpoint, metrics)

    def stream(self, metadata: Metadata, session_id: str) -> StreamTrace:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        carrier = {key: value for key, value in metadata if key in _CARRIED and isinstance(value, str)}
        attributes = {
            "rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": "StreamSegment", "humanseg.session": session_id
        }  # fmt: skip
        parent = self._propagator.extract(carrier, Context())
        span = self._tracer.start_span(f"{SERVICE}/StreamSegment", parent, SpanKind.SERVER, attributes)
        if not span.is_recording():
            return _UNTRACED
        # What the SDK gives is the API's Span and a ReadableSpan in one.
        return _TracedStream(self._tracer, cast("Span", span), self._sender, self._models, self._frame_ratio)

    def close(self) -> None:
        self._sender.close()


class _TracedStream(StreamTrace):
    """The span of a stream that was sampled, and those of some of its frames."""

    def __init__(
        self, tracer: "Tracer", span: "Span", sender: "_Sender", models: Mapping[str, RunnerInfo], frame_ratio: float
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._span, self._sender = tracer, span, sender
        self._models, self._frame_ratio = models, frame_ratio
        self._context = set_span_in_context(span)
        # Taken once, so that a clock that jumps leaves the spans of a trace in order.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    @property
    def ids(self) -> Mapping[str, str]:
        context = self._span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def answered(self, reply: Answer) -> None:
        # Not a secret: any generator will do.
        if isinstance(reply, MaskAnswer | EstimateAnswer | DropAnswer) and random.random() < self._frame_ratio:
            self._sender.put(self._frame_spans(reply))

    def _frame_spans(self, reply: MaskAnswer | EstimateAnswer | DropAnswer) -> "list[ReadableSpan]":
        from opentelemetry.trace import set_span_in_context

        clock, written_ns = reply.clock, time.monotonic_ns()
        frame = self._begin("frame", self._context, clock.arrived_ns, {"humanseg.frame_id": reply.entry.frame_id})
        match reply:
            case DropAnswer():
                frame.set_attributes({"humanseg.outcome": "dropped", "humanseg.reason": reply.reason.name.lower()})
                if reply.reason is DropReason.ENGINE_FAILED:
                    _mark_failed(frame, reply.reason.name)
            case MaskAnswer() | EstimateAnswer():
                outcome = "mask" if isinstance(reply, MaskAnswer) else "estimate"
                frame.set_attributes({"humanseg.outcome": outcome, "humanseg.degrade_level": reply.level})
                frame.set_attributes(self._model_attributes(reply.model))
        context = set_span_in_context(frame)
        spans: list[ReadableSpan] = [frame]
        for name, began_ns, ended_ns in _stages(clock, written_ns):
            stage = self._begin(name, context, began_ns)
            stage.end(self._epoch_ns + ended_ns)
            spans.append(stage)
        frame.end(self._epoch_ns + written_ns)
        return spans

    def _begin(
        self, name: str, context: "Context", began_ns: int, attributes: Mapping[str, int] | None = None
    ) -> "Span":
        began_ns += self._epoch_ns
        return cast("Span", self._tracer.start_span(name, context, start_time=began_ns, attributes=attributes))

    def _model_attributes(self, model: str) -> dict[str, str]:
        if (info := self._models.get(model)) is None:
            return {}
        return {
            "humanseg.model": model, "humanseg.model_version": info.model.version, "humanseg.engine": info.engine
        }  # fmt: skip

    def ended(self, session: Session, outcome: str) -> None:
        self._span.set_attributes(
            {
                "humanseg.label": session.label, "humanseg.outcome": outcome, "humanseg.frames": session.frames,
                "humanseg.masks": session.masks, "humanseg.estimates": session.estimates,
                "humanseg.drops": session.drops, **self._model_attributes(session.model),
            }
        )  # fmt: skip
        if outcome == Reason.INTERNAL.name.lower():
            _mark_failed(self._span, Reason.INTERNAL.name)
        self._span.end(self._epoch_ns + time.monotonic_ns())
        self._sender.put([self._span])


def _stages(clock: StageClock, written_ns: int) -> Iterable[tuple[str, int, int]]:
    """(name, begin, end) of each stage that the frame went through; at last, how long gRPC took to take the answer."""
    for stage, began_ns in clock.began_ns.items():
        if stage != "total":
            yield stage, began_ns, began_ns + clock.wall_ns[stage]
    yield "write", clock.arrived_ns + clock.wall_ns["total"], written_ns


def _mark_failed(span: "Span", why: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR, why)


class _Exporter:
    """The OTLP exporter, which tells the one who calls it why a batch did not arrive, and not the log at every try."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._last_words = _LastWords()
        logger = logging.getLogger("opentelemetry")
        logger.handlers[:], logger.propagate = [self._last_words], False

    def send(self, batch: "Sequence[ReadableSpan]") -> None:
        """Raises SendError."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
            raise SendError(self._last_words.text)

    def break_off(self) -> None:
        """End a try that is under way, and every later one."""
        self._exporter.shutdown()


class _LastWords(logging.Handler):
    """Keeps the last of what OpenTelemetry would log."""

    def __init__(self) -> None:
        super().__init__()
        self.text = "no reason given"

    def emit(self, record: logging.LogRecord) -> None:
        self.text = " ".join(record.getMessage().split())
