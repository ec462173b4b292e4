"""KServe's inference protocol v2, which is Triton's, beside our own: the servicer, and how it is added to a server.

Its messages are tritonclient's (extra ``triton``): the descriptor pool of a process takes one copy of them. Imported
only where `HUMANSEG_KSERVE` asks for it.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

import humanseg
from service import log
from service.access import Gate, Tenant
from service.border import abort, new_id
from service.call_errors import CallError, Reason
from service.kserve_infer import InferDesk
from service.kserve_memory import RegionBook
from service.kserve_models import KserveModels
from service.kserve_sequences import SequenceTable
from service.kserve_stream import InferStream
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.roster import require_room_among
from service.session_door import Caller, SessionDoor
from service.settings import Settings
from service.status import internal
from service.stills import StillDesk
from service.stream_config import SizeLimits

KSERVE_NAME = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Caller], Awaitable[Any]]


class KserveServicer:
    """Answers the calls of ``inference.GRPCInferenceService``."""

    full_name: str = KSERVE_NAME

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        metrics: ServiceMetrics,
        limits: SizeLimits,
        gate: Gate,
        door: SessionDoor,
        stills: StillDesk,
    ) -> None:
        """Raises NameTakenError where two models would have the same name."""
        self._models = KserveModels(catalog, settings.idle_timeout_s)
        self._regions = RegionBook(enabled=settings.kserve_shared_memory)
        self._shares_memory = settings.kserve_shared_memory
        self._max_streams = settings.max_sessions
        self._max_messages_per_s = settings.max_messages_per_s
        self._metrics = metrics
        self._limits = limits
        self._desk = InferDesk(self._models, limits, self._regions, stills)
        self._gate = gate
        self._door = door
        self._streams: dict[InferStream, str] = {}
        self._sequences = SequenceTable(door, limits, lambda _error: None)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the calls that are served; gRPC itself answers the others with UNIMPLEMENTED."""
        methods: dict[str, Method] = {
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "ModelInfer": self._infer,
            "SystemSharedMemoryRegister": self._register_region,
            "SystemSharedMemoryStatus": self._region_status,
            "SystemSharedMemoryUnregister": self._unregister_region,
            # Clients let go of all regions of both kinds before they begin.
            "CudaSharedMemoryStatus": self._no_cuda_regions,
            "CudaSharedMemoryUnregister": self._no_cuda_regions,
        }
        service = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        calls: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {
            # For probes, which have no token; health checks of our own protocol need none either.
            "ServerLive": self._live,
            "ServerReady": self._ready,
            **{name: self._guarded(method) for name, method in methods.items()},
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for name, call in calls.items():
            descriptor = service.methods_by_name[name]
            request, response = (getattr(messages, one.name) for one in (descriptor.input_type, descriptor.output_type))
            handlers[name] = grpc.unary_unary_rpc_method_handler(
                call,
                request.FromString,
                response.SerializeToString,
            )
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer,
            messages.ModelInferRequest.FromString,
            messages.ModelStreamInferResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(KSERVE_NAME, handlers),))
        server.add_registered_method_handlers(KSERVE_NAME, handlers)

    def drain(self) -> None:
        """The server stops: streams end as soon as they have no sequence; sequences are told by the roster."""
        for stream in self._streams:
            stream.drain()

    async def close(self) -> None:
        """Break off what is left and let go of all regions."""
        await self._sequences.abandon()
        self._regions.close()

    def _guarded(self, method: Method) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            try:
                return await method(request, self._caller(context))
            except CallError as error:
                await abort(context, error)
            except Exception as error:  # the border to the wire: what it was stays in the log
                request_id = new_id()
                log.event("call_failed", level=logging.ERROR, error=error, request_id=request_id)
                await abort(context, internal(request_id))

        return call

    def _caller(self, context: Context) -> Caller:
        metadata = context.invocation_metadata() or ()
        return Caller(self._gate.tenant_of(metadata), context.peer(), metadata)

    async def _live(self, _request: Any, _context: Context) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, _request: Any, _context: Context) -> Any:
        return messages.ServerReadyResponse(ready=self._metrics.is_ready)

    async def _server_metadata(self, _request: Any, _caller: Caller) -> Any:
        extensions = ["sequence", "sequence(string_id)", "model_configuration", "statistics", "model_repository"]
        extensions += ["system_shared_memory"] if self._shares_memory else []
        return messages.ServerMetadataResponse(name="humanseg", version=humanseg.__version__, extensions=extensions)

    async def _model_ready(self, request: Any, _caller: Caller) -> Any:
        has = self._models.has(request.name, request.version)
        return messages.ModelReadyResponse(ready=has and self._metrics.is_ready)

    async def _model_metadata(self, request: Any, _caller: Caller) -> Any:
        return self._models.metadata(self._models.find(request.name, request.version))

    async def _model_config(self, request: Any, _caller: Caller) -> Any:
        return self._models.config(self._models.find(request.name, request.version))

    async def _model_statistics(self, request: Any, _caller: Caller) -> Any:
        return self._models.statistics(request.name, request.version)

    async def _repository_index(self, _request: Any, _caller: Caller) -> Any:
        return self._models.index()

    async def _register_region(self, request: Any, caller: Caller) -> Any:
        self._regions.register(
            caller.tenant.name, caller.peer, request.name, request.key, request.offset, request.byte_size
        )
        return messages.SystemSharedMemoryRegisterResponse()

    async def _region_status(self, request: Any, caller: Caller) -> Any:
        response = messages.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(caller.tenant.name, request.name):
            shown = response.regions[region.name]
            shown.name, shown.key, shown.offset, shown.byte_size = (
                region.name, region.key, region.offset, region.byte_size,
            )  # fmt: skip
        return response

    async def _unregister_region(self, request: Any, caller: Caller) -> Any:
        self._regions.unregister(caller.tenant.name, request.name)
        return messages.SystemSharedMemoryUnregisterResponse()

    async def _no_cuda_regions(self, request: Any, _caller: Caller) -> Any:
        if isinstance(request, messages.CudaSharedMemoryStatusRequest):
            return messages.CudaSharedMemoryStatusResponse()
        return messages.CudaSharedMemoryUnregisterResponse()

    async def _infer(self, request: Any, caller: Caller) -> Any:
        return await self._desk.infer(request, caller, self._sequences)

    async def _stream_infer(self, requests: AsyncIterator[Any], context: Context) -> None:
        ended_by: CallError | None = None
        try:
            caller = self._admit(context)
            stream = InferStream(context.write, self._door.timeouts, self._max_messages_per_s)
            sequences = SequenceTable(self._door, self._limits, stream.sequence_ended)

            async def take_turn(message: Any) -> bool:
                return await self._desk.take_turn(
                    message, caller, sequences, stream.send, lambda error: stream.refuse(message, error)
                )

            self._streams[stream] = caller.tenant.name
            try:
                await stream.run(requests, sequences, take_turn, lambda message: self._desk.still(message, caller))
            finally:
                del self._streams[stream]
        except CallError as error:
            ended_by = error
        except grpc.aio.UsageError:  # raised by write() once the client is gone
            return
        except Exception as error:  # the border to the wire: what it was stays in the log
            request_id = new_id()
            log.event("call_failed", level=logging.ERROR, error=error, request_id=request_id)
            ended_by = internal(request_id)
        if ended_by is not None:
            await abort(context, ended_by)

    def _admit(self, context: Context) -> Caller:
        try:
            caller = self._caller(context)
            self._require_room(caller.tenant)
        except CallError as error:
            self._door.refuse(error.reason)
            raise
        return caller

    def _require_room(self, tenant: Tenant) -> None:
        """As many streams as sessions, of a tenant and altogether: an idle one costs little, but not nothing.

        Raises:
            CallError: DRAINING, TENANT_QUOTA, TOO_MANY_SESSIONS.
        """
        if self._door.is_draining:
            raise CallError(Reason.DRAINING, "this server stops; another replica will take the stream")
        require_room_among(list(self._streams.values()), tenant, self._max_streams)
