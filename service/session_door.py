"""Opens sessions and sees them to their end, whatever protocol they came by: admission, log, traces, the roster."""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc

from service import log
from service.access import Tenant
from service.admission import Admission
from service.answers import Answer, Incoming
from service.border import new_id
from service.call_errors import CallError, Reason
from service.degrade import Ladder, LadderRules
from service.dispatcher import Dispatcher
from service.estimator import Estimator
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.resume import Sealer
from service.roster import Roster
from service.session import Session
from service.settings import Settings
from service.status import internal
from service.stream_config import ConfigDefaults, SizeLimits
from service.stream_protocol import StreamProtocol
from service.time_limits import SessionTimeouts
from service.tracing import Metadata, Tracing


@dataclass(frozen=True, slots=True)
class Caller:
    """Who opens a session."""

    tenant: Tenant
    peer: str
    """As grpc names it."""
    metadata: Metadata


class SessionDoor:
    """What every session of one server is made with."""

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
        tracing: Tracing,
    ) -> None:
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._estimator = estimator
        self._roster = roster
        self._metrics = metrics
        self._limits = limits
        self._admission = admission
        self._sealer = sealer
        self._tracing = tracing
        self._max_messages_per_s = settings.max_messages_per_s
        self._defaults = ConfigDefaults(
            frame_deadline_ns=round(settings.frame_deadline_s * 1e9) or None, degrades=settings.degrade
        )
        self._ladder_rules = LadderRules(
            window_ns=round(settings.degrade_after_s * 1e9), calm_ns=round(settings.restore_after_s * 1e9)
        )
        self.timeouts = SessionTimeouts(
            config_s=settings.config_timeout_s,
            idle_s=settings.idle_timeout_s,
            write_s=settings.write_timeout_s,
            max_age_s=settings.max_stream_age_s,
            age_notice_s=settings.age_notice_s,
        )

    @property
    def is_draining(self) -> bool:
        """Whether the server stops."""
        return self._roster.is_draining

    def refuse(self, reason: Reason) -> None:
        """Count a stream that was not admitted."""
        self._roster.refuse(reason)

    def open(self, tenant: Tenant) -> Session:
        """A session for a tenant; it counts in the roster once it is served, before which nothing may be awaited.

        Raises:
            CallError: DRAINING, TENANT_QUOTA, TOO_MANY_SESSIONS; the refusal is counted.
        """
        try:
            self._roster.require_room(tenant)
        except CallError as error:
            self.refuse(error.reason)
            raise
        return Session(
            new_id(),
            StreamProtocol(self._catalog, self._limits, self._defaults),
            self._dispatcher,
            self._estimator,
            self._metrics,
            self.timeouts,
            self._admission,
            Ladder(self._ladder_rules, jitter=random.random()),
            self._catalog.names,
            self._sealer,
            tenant.name,
            self._max_messages_per_s,
        )

    async def serve(
        self,
        session: Session,
        caller: Caller,
        incoming: AsyncIterator[Incoming],
        answer: Callable[[Answer], Awaitable[None]],
    ) -> None:
        """Run a session to its end; returns when all is answered, and where the client has gone.

        Raises:
            CallError: the session ends with an error status; INTERNAL for any other exception.
        """

        async def answer_and_trace(reply: Answer) -> None:
            await answer(reply)
            trace.answered(reply)

        trace = self._tracing.stream(caller.metadata, session.session_id)
        ended_by: CallError | None = None
        outcome = "cancelled"
        self._roster.enter(session)
        log.event("session_opened", session=session.session_id, peer=caller.peer, tenant=caller.tenant.name)
        try:
            await session.run(incoming, answer_and_trace)
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
            log.event(
                "session_closed", session=session.session_id, label=session.label, model=session.model,
                outcome=outcome,
                frames=session.frames, masks=session.masks, estimates=session.estimates, drops=session.drops,
                **trace.ids,  # type: ignore[arg-type]  # neither is named level or error
            )  # fmt: skip
        if ended_by is not None:
            raise ended_by
