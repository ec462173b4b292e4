"""``python -m service.worker``: one of several server processes; started by `service.workers`, not by hand.

Reads its settings from standard input and says on standard output, once it is ready, where its metrics are. When
standard input ends, the supervisor is gone: the worker drains and ends as if it had been told to.
"""

import json
import os
import signal
import sys
import threading

from service.__main__ import run_server
from service.server import WorkerSeat
from service.settings import Settings


def main() -> int:
    """Run the worker; returns the exit status."""
    plan = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    seat = WorkerSeat(
        plan["index"], plan["count"], bytes.fromhex(plan["resume_key"]),
        on_ready=lambda metrics_port: print(metrics_port, flush=True),
    )  # fmt: skip
    return run_server(Settings.from_plain(plan["settings"]), seat)


def _end_with_supervisor() -> None:
    # A thread, so that a busy event loop does not keep an orphan alive.
    while sys.stdin.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
