"""An OTLP collector on a port of its own: gRPC, the real messages, everything kept. Needs the `otel` extra."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.timing import limit_s


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans until it is closed."""

    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    _came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._came:
            self.headers.append(dict(context.invocation_metadata()))
            for of_resource in request.resource_spans:
                self.resources.append(values(of_resource.resource))
                for scope in of_resource.scope_spans:
                    self.spans.extend(scope.spans)
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def streams(self) -> list[Span]:
        return [span for span in self.spans if span.name.endswith("/StreamSegment")]

    def frames(self) -> list[Span]:
        return [span for span in self.spans if span.name == "frame"]

    def children(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_span_id == parent.span_id]

    def wait_for_stream(self) -> Span:
        """The span of the one stream there was; all of its frames' have come before it."""
        with self._came:
            if not self._came.wait_for(self.streams, limit_s(20)):
                raise AssertionError(f"no span of a stream came, only {[span.name for span in self.spans]}")
            (stream,) = self.streams()
            return stream


def values(of: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in of.attributes}


@contextmanager
def running_collector(port: int = 0) -> Iterator[Collector]:
    """Start it, on a free port or on one that was free a moment ago."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    deadline = time.monotonic() + limit_s(20)
    while not collector.port:
        try:
            collector.port = server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
