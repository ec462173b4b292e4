"""One load after the other against one server, with progress shown: what the command and its searches are made of."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bare import BareError, measure_bare
from benchmarks.conductor import LoadError, conduct
from benchmarks.figures import load_of, run_figures
from benchmarks.machine import usable_cores
from benchmarks.plan import LoadPlan
from benchmarks.report import ServerFacts
from benchmarks.target import LocalServer, Target, attach
from benchmarks.validity import judge

#: How long the engine is measured alone.
BARE_S = 3.0


class Bench(AbstractContextManager["Bench"]):
    """A server to be measured, and the display of what goes on; leaving it stops a server that was started here."""

    def __init__(self, server: AbstractContextManager[Target], clients: int | None, console: Console) -> None:
        """Nothing is started yet; ``clients`` are the client processes at most, None: a quarter of the cores."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("starting the server", total=None)
        self._server = server
        self._clients = clients or max(1, usable_cores() // 4)
        self._target: Target | None = None

    def __enter__(self) -> Self:
        """Start the server.

        Raises:
            TargetError: it does not start.
        """
        self._progress.start()
        try:
            self._target = self._server.__enter__()
        except BaseException:
            self._progress.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._progress.update(self._task, description="stopping the server", total=None)
            self._server.__exit__(kind, error, trace)
        finally:
            self._progress.stop()

    @property
    def target(self) -> Target:
        """The server measured."""
        assert self._target is not None  # inside `with`
        return self._target

    def run(self, plan: LoadPlan, what: str = "") -> dict[str, Any]:
        """Carry one load out; its figures (`run_figures`).

        Raises:
            LoadError, ScrapeError, TargetError: it could not be carried out.
        """
        plan = replace(plan, address=self.target.address)
        self._show(f"{what}opening the sessions")

        def progress(share: float) -> None:
            phase = "warming up" if share * plan.duration_s < plan.warmup_s else "measuring"
            self._progress.update(self._task, description=f"{what}{phase}", total=1.0, completed=share)

        finished = asyncio.run(conduct(plan, self._clients, self.target, progress))
        outcome = finished.outcome
        verdict = judge(outcome.recorder, outcome.frames["unanswered"], finished.clock_jump_ms)
        return run_figures(plan, finished, verdict)

    def step(self, plan: LoadPlan, what: str) -> dict[str, Any]:
        """The same, but a load that the server refuses is a finding: ``{"load", "failed"}``.

        Raises:
            ScrapeError, TargetError: the server itself is gone.
        """
        try:
            return self.run(plan, what)
        except LoadError as error:
            return {"load": load_of(replace(plan, address=self.target.address)), "failed": str(error)}

    def bare_engine(self, model: str, engine: str, cpus: str | None) -> dict[str, Any]:
        """What the engine gives alone, as values; ``{"not_measured": why}`` where it is not ours to start."""
        if not isinstance(self.target, LocalServer):
            return {"not_measured": "the server was given by --target"}
        self._show("measuring the engine alone")
        settings = self.target.settings()
        threads = int(settings["runners"]) or usable_cores()
        try:
            return asdict(measure_bare(Path(settings["models"]), model, engine, threads, BARE_S, cpus))
        except BareError as error:
            return {"not_measured": str(error)}

    def facts(self) -> ServerFacts:
        """Of the server; its exit status once it was stopped."""
        if isinstance(self.target, LocalServer):
            return ServerFacts(True, self.target.exit_status, self.target.settings(), self.target.niceness)
        return ServerFacts(False, None, {})

    def _show(self, what: str) -> None:
        self._progress.update(self._task, description=what, total=None)


def open_server(
    *,
    target: str | None,
    metrics_url: str | None,
    log_path: Path,
    models: Path | None,
    flags: list[str],
    cpus: str | None,
    transport: str = "tcp",
    niceness: int = 0,
) -> AbstractContextManager[Target]:
    """The server to measure: a new one that is stopped at the end, or the one named.

    Raises:
        TargetError: it cannot be had.
    """
    if target:
        return nullcontext(attach(target, metrics_url))
    arguments = ["--models", str(models.resolve())] if models else []
    for flag in flags:
        name, _, value = flag.partition("=")
        arguments += [f"--{name}", value]
    return LocalServer(log_path, arguments, cpus=cpus, transport=transport, niceness=niceness)
