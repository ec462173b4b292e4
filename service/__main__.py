"""``python -m service``: arguments to settings to server to exit status.

Exit status: 0 stopped as asked, 1 could not start (the first line of the log says why), 2 a setting is wrong.
"""

import asyncio
import logging
import os
import sys

from engines.runner import EngineError
from service import log
from service.models import open_models
from service.server import KserveUnavailableError, ListenError, WorkerSeat, serve
from service.settings import Settings, SettingsError, load_settings
from service.tracing import TracingUnavailableError
from service.watched_file import SecretFileError
from service.workers import run_workers


def main() -> int:
    """Run the server; returns the exit status."""
    try:
        settings = load_settings(sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"settings refused:\n{error}", file=sys.stderr)
        return 2
    if settings.workers > 1:
        log.start_logging(level=settings.log_level, as_json=settings.log_format == "json")
        log.event("starting", **settings.for_log())  # type: ignore[arg-type]  # no setting is named level or error
        return run_workers(settings)
    return run_server(settings)


def run_server(settings: Settings, seat: WorkerSeat | None = None) -> int:
    """Serve in this process, alone or as one of several; returns the exit status."""
    log.start_logging(
        level=settings.log_level, as_json=settings.log_format == "json", worker=None if seat is None else seat.index
    )
    log.event("starting", **settings.for_log())  # type: ignore[arg-type]  # no setting is named level or error
    try:
        catalog = open_models(
            settings.models,
            engine=settings.engine,
            default=settings.default_model,
            max_batch=settings.max_batch,
            concurrency=settings.runner_threads,
            cache=settings.engine_cache,
            plans=settings.plans,
            servers=settings.triton_servers,
        )
    except EngineError as error:
        log.event("start_failed", level=logging.ERROR, reason=str(error))
        return 1
    try:
        asyncio.run(serve(settings, catalog, seat))
    except (KserveUnavailableError, ListenError, SecretFileError, TracingUnavailableError) as error:
        log.event("start_failed", level=logging.ERROR, reason=str(error))
        return 1
    finally:
        catalog.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
