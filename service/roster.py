"""Which sessions are open: admission by their number, and the drain."""

import asyncio
from collections.abc import Sequence

from service.access import Tenant
from service.call_errors import CallError, Reason
from service.metrics import ServiceMetrics
from service.session import Session


class Roster:
    """The open sessions of one server."""

    def __init__(self, metrics: ServiceMetrics, max_sessions: int) -> None:
        self._metrics = metrics
        self._max_sessions = max_sessions
        self._sessions: set[Session] = set()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.sessions_limit.set(max_sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def is_draining(self) -> bool:
        """Whether the server stops."""
        return self._draining

    def require_room(self, tenant: Tenant) -> None:
        """Raises CallError (DRAINING, TENANT_QUOTA, TOO_MANY_SESSIONS) where no new session is taken."""
        if self._draining:
            raise CallError(Reason.DRAINING, "this server stops; another replica will take the stream")
        require_room_among([session.tenant for session in self._sessions], tenant, self._max_sessions)

    def enter(self, session: Session) -> None:
        """Note a session that begins."""
        self._sessions.add(session)
        self._metrics.sessions_admitted.inc()
        self._metrics.sessions_active.set(len(self._sessions))
        self._empty.clear()

    def leave(self, session: Session, outcome: str) -> None:
        """Note a session that ended; ``outcome`` is "ok", "cancelled", or the reason of its status."""
        self._sessions.discard(session)
        self._metrics.sessions_active.set(len(self._sessions))
        self._metrics.sessions.labels(outcome).inc()
        if not self._sessions:
            self._empty.set()

    def refuse(self, reason: Reason) -> None:
        """Count a stream that was not admitted."""
        self._metrics.session_refused(reason.name)

    async def drain(self, time_left_s: float) -> None:
        """Take no new sessions, tell those that are open, and wait for them to end."""
        self._draining = True
        for session in tuple(self._sessions):
            session.drain(time_left_s)
        await self._empty.wait()


def require_room_among(names: Sequence[str], tenant: Tenant, most: int) -> None:
    """Whether one more may be opened; ``names`` are the tenants of those that are open.

    Raises:
        CallError: TENANT_QUOTA, TOO_MANY_SESSIONS.
    """
    own = names.count(tenant.name)
    if 0 < tenant.max_sessions <= own:
        raise CallError(
            Reason.TENANT_QUOTA,
            f"tenant {tenant.name} has {own} streams open here, at most {tenant.max_sessions} may be; end one",
            metadata={"tenant_max_sessions": str(tenant.max_sessions)},
            quota_subject=f"tenant:{tenant.name}",
        )
    if len(names) >= most:
        raise CallError(
            Reason.TOO_MANY_SESSIONS,
            f"{len(names)} sessions are open, at most {most} are taken; try another replica",
            metadata={"max_sessions": str(most)},
        )
