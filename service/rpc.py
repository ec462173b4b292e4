"""The servicer: protobuf in, protobuf out; what a message means is decided in `stream_protocol` and `session`."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc
from service import converters, log
from service.access import Gate, Tenant
from service.answers import (
    AcceptAnswer,
    Answer,
    DropAnswer,
    EstimateAnswer,
    Incoming,
    MaskAnswer,
    ReceivedImage,
    ResumeAnswer,
)
from service.border import abort
from service.call_errors import CallError, ProtocolViolation, Reason
from service.models import ModelCatalog
from service.session_door import Caller, SessionDoor
from service.settings import Settings
from service.shared_memory import RegionDesk
from service.stills import StillDesk
from service.stream_config import SizeLimits, check_model
from service.stream_protocol import DegradeEntry
from service.wire import CutRequest, CutResponse, cut_request, join_response

StreamContext = grpc.aio.ServicerContext[CutRequest, CutResponse]
StillContext = grpc.aio.ServicerContext[pb.SegmentRequest, pb.SegmentResponse]
ListContext = grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse]
AnyContext = StreamContext | StillContext | ListContext


class SegmentationServicer(pb_grpc.SegmentationServiceServicer):
    """Answers the calls of ``humanseg.v1.SegmentationService``; `register` adds it to a server."""

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        limits: SizeLimits,
        gate: Gate,
        door: SessionDoor,
        stills: StillDesk,
    ) -> None:
        self._gate = gate
        self._shares_memory = settings.shared_memory
        self._catalog = catalog
        self._limits = limits
        self._door = door
        self._stills = stills
        self._limits_message = converters.limits_message(settings)
        self._models = {
            info.model.name: converters.model_message(info, is_default=info.model.name == catalog.default)
            for info in catalog.infos
        }

    # The stubs know only servicers that yield messages; grpc.aio also takes one that calls context.write.
    async def StreamSegment(  # type: ignore[override]  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[CutRequest], context: StreamContext
    ) -> None:
        """One session, from its config to its end."""
        try:
            tenant = self._tenant_of(context)
        except CallError as error:
            self._door.refuse(error.reason)
            await abort(context, error)
        try:
            session = self._door.open(tenant)
        except CallError as error:
            await abort(context, error)

        desk = RegionDesk(
            enabled=self._shares_memory,
            peer=context.peer(),
            on_open=lambda layout: log.event(
                "shared_memory_opened", session=session.session_id, region=layout.name, region_bytes=layout.size_bytes
            ),
        )

        async def answer(reply: Answer) -> None:
            if isinstance(reply, (MaskAnswer, EstimateAnswer, DropAnswer)):
                # Before the client can know of it and use the slots again.
                desk.answered(reply.entry.frame_id)
            await context.write(self._message(reply))

        ended_by: CallError | None = None
        caller = Caller(tenant, context.peer(), context.invocation_metadata() or ())
        try:
            await self._door.serve(session, caller, _incoming(request_iterator, desk), answer)
        except CallError as error:
            ended_by = error
        finally:
            # Before the status goes out: it may have to wait for a client that does not read.
            desk.close()
        if ended_by is not None:
            await abort(context, ended_by)

    async def Segment(self, request: pb.SegmentRequest, context: StillContext) -> pb.SegmentResponse:  # noqa: N802
        """One still picture."""
        try:
            with self._stills.call() as still:
                self._tenant_of(context)
                self._stills.require_room()
                task = converters.still_task(request, self._limits)
                model = check_model(request.model, self._catalog)
                mask = await still.segment(task, model)
                return converters.still_message(mask, self._models[model], still.clock)
        except CallError as error:
            await abort(context, error)

    async def ListModels(self, request: pb.ListModelsRequest, context: ListContext) -> pb.ListModelsResponse:  # noqa: N802
        """The models and limits of this server."""
        try:
            self._tenant_of(context)
        except CallError as error:
            await abort(context, error)
        return pb.ListModelsResponse(
            models=[self._models[name] for name in self._catalog.names], limits=self._limits_message
        )

    def _tenant_of(self, context: AnyContext) -> Tenant:
        return self._gate.tenant_of(context.invocation_metadata() or ())

    def _message(self, reply: Answer) -> CutResponse:
        match reply:
            case AcceptAnswer():
                model = self._models[reply.entry.config.model]
                return CutResponse(converters.accepted_message(reply.entry, reply.resume, model, self._limits_message))
            case ResumeAnswer():
                return CutResponse(converters.resume_message(reply.token, reply.frame_id))
            case MaskAnswer():
                message = converters.mask_message(reply.entry, reply.mask, reply.clock, reply.level)
                return CutResponse(message, reply.mask.payload)
            case EstimateAnswer():
                message = converters.estimate_message(reply.entry, reply.mask, reply.clock, reply.level)
                return CutResponse(message, reply.mask.payload)
            case DropAnswer():
                return CutResponse(converters.dropped_message(reply.entry, reply.reason, reply.detail, reply.clock))
            case DegradeEntry():
                return CutResponse(converters.degrade_message(reply))
            case _:
                return CutResponse(converters.notice_message(reply))


def register(servicer: SegmentationServicer, server: grpc.aio.Server) -> None:
    """Add the servicer as the generated code does, but for the messages of `service.wire` on the stream."""
    name = pb.DESCRIPTOR.services_by_name["SegmentationService"].full_name
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "StreamSegment": grpc.stream_stream_rpc_method_handler(servicer.StreamSegment, cut_request, join_response),
        "Segment": grpc.unary_unary_rpc_method_handler(
            servicer.Segment, pb.SegmentRequest.FromString, pb.SegmentResponse.SerializeToString
        ),
        "ListModels": grpc.unary_unary_rpc_method_handler(
            servicer.ListModels, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    server.add_registered_method_handlers(name, handlers)


async def _incoming(requests: AsyncIterator[CutRequest], desk: RegionDesk) -> AsyncIterator[Incoming]:
    async for request in requests:
        match request.message.WhichOneof("message"):
            case "frame":
                frame = request.message.frame
                received = converters.received_frame(frame, request.picture)
                yield desk.take_frame(received, converters.shared_span(frame), frame.mask_slot)
            case "config":
                config = request.message.config
                yield desk.take_config(converters.requested_config(config), converters.region_request(config))
            case "background_image":
                image = request.message.background_image
                yield ReceivedImage(image.image_id, image.file)
            case _:
                wanted = "config, frame or background_image"
                message = f"a message without {wanted} (or with a field of a newer release); set one of them"
                raise ProtocolViolation(Reason.MESSAGE_EMPTY, message, fields=[("message", message)])
