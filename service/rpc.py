"""The servicer: protobuf in, protobuf out; what a message means is decided in `stream_protocol` and `session`."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from humanseg.frames import FrameError
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc
from humanseg.vision.decode import DecodeError, TooLargeError
from service import converters, log
from service.access import Gate, Tenant
from service.admission import Admission
from service.degrade import Ladder, LadderRules
from service.dispatcher import Dispatcher, DispatcherClosed
from service.estimator import Estimator
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.pipeline import FusionMemory
from service.resume import Sealer
from service.roster import Roster
from service.session import (
    AcceptAnswer,
    Answer,
    DropAnswer,
    EstimateAnswer,
    Incoming,
    MaskAnswer,
    ReceivedImage,
    ResumeAnswer,
    Session,
    SessionTimeouts,
)
from service.settings import Settings
from service.shared_memory import RegionDesk
from service.stages import StageClock
from service.status import internal, to_status
from service.still_composite import with_image
from service.stream_protocol import (
    CallError,
    ConfigDefaults,
    DegradeEntry,
    ProtocolViolation,
    Reason,
    SizeLimits,
    StreamProtocol,
    check_model,
    invalid,
)
from service.tracing import Tracing
from service.wire import CutRequest, CutResponse, cut_request, join_response

StreamContext = grpc.aio.ServicerContext[CutRequest, CutResponse]
StillContext = grpc.aio.ServicerContext[pb.SegmentRequest, pb.SegmentResponse]
ListContext = grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse]
AnyContext = StreamContext | StillContext | ListContext


#: How long a status may wait for the client's window before the call is cut off without one.
ABORT_TIMEOUT_S = 10.0


class SegmentationServicer(pb_grpc.SegmentationServiceServicer):
    """Answers the calls of ``humanseg.v1.SegmentationService``; `register` adds it to a server."""

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        dispatcher: Dispatcher,
        estimator: Estimator,
        roster: Roster,
        metrics: ServiceMetrics,
        limits: SizeLimits,
        admission: Admission,
        sealer: Sealer,
        gate: Gate,
        tracing: Tracing,
    ) -> None:
        self._tracing = tracing
        self._sealer = sealer
        self._gate = gate
        self._max_messages_per_s = settings.max_messages_per_s
        self._shares_memory = settings.shared_memory
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._estimator = estimator
        self._roster = roster
        self._metrics = metrics
        self._limits = limits
        self._admission = admission
        self._max_stills = settings.max_stills
        self._stills = 0
        self._defaults = ConfigDefaults(
            frame_deadline_ns=round(settings.frame_deadline_s * 1e9) or None, degrades=settings.degrade
        )
        self._ladder_rules = LadderRules(
            window_ns=round(settings.degrade_after_s * 1e9), calm_ns=round(settings.restore_after_s * 1e9)
        )
        self._limits_message = converters.limits_message(settings)
        self._timeouts = SessionTimeouts(
            config_s=settings.config_timeout_s,
            idle_s=settings.idle_timeout_s,
            write_s=settings.write_timeout_s,
            max_age_s=settings.max_stream_age_s,
            age_notice_s=settings.age_notice_s,
        )
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
            self._roster.require_room(tenant)
        except CallError as error:
            self._roster.refuse(error.reason)
            await _abort(context, error)
        session = Session(
            _new_id(),
            StreamProtocol(self._catalog, self._limits, self._defaults),
            self._dispatcher,
            self._estimator,
            self._metrics,
            self._timeouts,
            self._admission,
            Ladder(self._ladder_rules, jitter=random.random()),
            self._catalog.names,
            self._sealer,
            tenant.name,
            self._max_messages_per_s,
        )

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
            trace.answered(reply)

        trace = self._tracing.stream(context.invocation_metadata() or (), session.session_id)
        ended_by: CallError | None = None
        outcome = "cancelled"
        self._roster.enter(session)
        log.event("session_opened", session=session.session_id, peer=context.peer(), tenant=tenant.name)
        try:
            await session.run(_incoming(request_iterator, desk), answer)
            outcome = "ok"
        except CallError as error:
            ended_by, outcome = error, error.reason.name.lower()
        except grpc.aio.UsageError:  # raised by write() once the client is gone
            outcome = "cancelled"
        except Exception as error:  # the border to the wire: what it was stays in the log
            ended_by, outcome = internal(session.session_id), "internal"
            log.event(
                "call_failed", level=logging.ERROR, error=error, request_id=session.session_id, label=session.label
            )
        finally:
            # Before the status goes out: it may have to wait for a client that does not read.
            self._roster.leave(session, outcome)
            trace.ended(session, outcome)
            desk.close()
            log.event(
                "session_closed", session=session.session_id, label=session.label, model=session.model,
                outcome=outcome,
                frames=session.frames, masks=session.masks, estimates=session.estimates, drops=session.drops,
                **trace.ids,  # type: ignore[arg-type]  # neither is named level or error
            )  # fmt: skip
        if ended_by is not None:
            await _abort(context, ended_by)

    async def Segment(self, request: pb.SegmentRequest, context: StillContext) -> pb.SegmentResponse:  # noqa: N802
        """One still picture."""
        clock = StageClock(time.monotonic_ns())
        self._stills += 1
        try:
            self._tenant_of(context)
            self._require_room_for_still()
            response = await self._segment_still(request, clock)
        except CallError as error:
            self._metrics.stills.labels(error.reason.name.lower()).inc()
            await _abort(context, error)
        except Exception as error:  # the border to the wire: what it was stays in the log
            self._metrics.stills.labels("internal").inc()
            request_id = _new_id()
            log.event("call_failed", level=logging.ERROR, error=error, request_id=request_id)
            await _abort(context, internal(request_id))
        finally:
            self._stills -= 1
        self._metrics.stills.labels("mask").inc()
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: ListContext) -> pb.ListModelsResponse:  # noqa: N802
        """The models and limits of this server."""
        try:
            self._tenant_of(context)
        except CallError as error:
            await _abort(context, error)
        return pb.ListModelsResponse(
            models=[self._models[name] for name in self._catalog.names], limits=self._limits_message
        )

    def _require_room_for_still(self) -> None:
        if self._stills > self._max_stills:
            raise CallError(
                Reason.OVERLOADED,
                f"{self._max_stills} still pictures are being segmented, more are not taken; send this one later",
                metadata={"max_stills": str(self._max_stills)},
            )

    def _tenant_of(self, context: AnyContext) -> Tenant:
        return self._gate.tenant_of(context.invocation_metadata() or ())

    async def _segment_still(self, request: pb.SegmentRequest, clock: StageClock) -> pb.SegmentResponse:
        task = converters.still_task(request, self._limits)
        model = check_model(request.model, self._catalog)
        clock.started()
        task = await with_image(task, self._limits)
        try:
            mask = await self._dispatcher.segment(task, model, FusionMemory(), clock)
        except TooLargeError as error:
            metadata = {"max_frame_px": str(self._limits.max_frame_px), "max_side_px": str(self._limits.max_side_px)}
            raise CallError(Reason.LIMIT_EXCEEDED, str(error), metadata=metadata) from None
        except (DecodeError, FrameError) as error:
            raise invalid(Reason.PICTURE_INVALID, "picture cannot be read", [("picture", str(error))]) from None
        except DispatcherClosed:
            raise CallError(Reason.DRAINING, "this server stops; another replica will take the call") from None
        clock.answered()
        self._metrics.observe_stages(clock)
        return converters.still_message(mask, self._models[model], clock)

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


async def _abort(context: AnyContext, error: CallError) -> NoReturn:
    """End the call with the error's status.

    The status queues behind answers that the client has not read. It gets them all if it reads on in time; else the
    call is cut off, since grpc.aio would wait for it for ever.
    """
    async with asyncio.timeout(ABORT_TIMEOUT_S):
        await context.abort_with_status(to_status(error))
    raise AssertionError("abort_with_status always raises")


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
