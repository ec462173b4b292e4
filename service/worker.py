"""``python -m service.worker``: one of several server processes; started by `service.workers`, not by hand.

Reads its settings from standard input and says on standard output, once it is ready, where its metrics are; then it
sends a heartbeat there. When standard input ends, the supervisor is gone: the worker drains and ends as if it had been
told to.
"""

import asyncio
import json
import os
import signal
import sys
import threading

from service.__main__ import run_server
from service.heartbeat import beat_for_ever
from service.server import WorkerSeat
from service.settings import Settings


def main() -> int:
    """Run the worker; returns the exit status."""
    plan = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    beating: list[asyncio.Task[None]] = []

    def on_ready(metrics_port: int) -> None:
        print(metrics_port, flush=True)
        # Held, since the loop itself does not keep its tasks alive.
        beating.append(asyncio.get_running_loop().create_task(beat_for_ever(sys.stdout.fileno())))

    seat = WorkerSeat(plan["index"], plan["count"], bytes.fromhex(plan["resume_key"]), on_ready)
    return run_server(Settings.from_plain(plan["settings"]), seat)


def _end_with_supervisor() -> None:
    # A thread, so that a busy event loop does not keep an orphan alive.
    while sys.stdin.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
