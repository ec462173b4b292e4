"""What the supervisor decides: shares, and when to start a worker again."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.metrics import MetricsEndpoint, ServiceMetrics, SupervisorMetrics
from service.server import ListenError
from service.settings import Settings
from service.workers import LONGEST_DELAY_S, reserve_port, restart_delay_s, worker_settings


def test_one_that_lived_is_restarted_at_once_others_ever_later() -> None:
    delays = [restart_delay_s(lives) for lives in range(12)]
    assert delays[:6] == [0, 1, 2, 4, 8, 16]
    assert set(delays[6:]) == {LONGEST_DELAY_S}


@pytest.mark.parametrize(("workers", "runners", "sessions"), [(2, 3, 33), (3, 2, 22), (8, 1, 9)])
def test_threads_and_sessions_are_dealt_out(workers: int, runners: int, sessions: int) -> None:
    share = worker_settings(Settings(workers=workers, runners=6, max_sessions=65, metrics_port=9464), 5)
    assert (share.workers, share.port, share.metrics_port) == (1, 5, 0)
    assert (share.runners, share.max_sessions) == (runners, sessions)


def test_settings_travel_to_another_process_as_they_are() -> None:
    files = {"tls_cert_file": Path("a/b.pem"), "engine_cache": Path("cache")}
    settings = Settings(workers=2, degrade=False, drain_s=0.5, log_format="json", **files)
    assert Settings.from_plain(json.loads(json.dumps(settings.to_plain()))) == settings


def test_it_is_ready_while_a_worker_says_so_and_nothing_stops() -> None:
    metrics, workers = SupervisorMetrics(2), [ServiceMetrics(), ServiceMetrics()]
    with ExitStack() as stack:
        endpoints = [stack.enter_context(MetricsEndpoint(one, "127.0.0.1", 0)) for one in workers]
        assert not metrics.is_ready
        metrics.worker_is_ready(1, endpoints[1].port)
        assert not metrics.is_ready, "it is there, and has no engine"
        workers[1].set_ready(True)
        assert metrics.is_ready
        metrics.worker_is_gone(1)
        assert not metrics.is_ready
        workers[0].set_ready(True)
        metrics.worker_is_ready(0, endpoints[0].port)
        metrics.worker_is_ready(1, 1)  # it just ended
        assert metrics.is_ready
        metrics.stop()
        assert not metrics.is_ready


def test_a_port_that_is_reserved_can_be_shared_by_those_who_mean_to() -> None:
    with reserve_port("127.0.0.1", 0) as reserved, socket.socket() as worker:
        port = reserved.getsockname()[1]
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", port))
        worker.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            worker.accept()[0].close()
        with pytest.raises(ListenError, match="is another server there"):
            reserve_port("127.0.0.1", port)
