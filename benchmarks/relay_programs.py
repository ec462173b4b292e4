"""The WebRTC relay and its peer as processes: they are examples, which nothing else may import."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.target import LocalServer, TargetError

#: What the two import beyond what this package needs itself.
NEEDED = ("aiohttp", "aiortc")
#: For the peer to start, read its clip, wait for the first picture, and end, beyond the time that it measures.
PEER_MARGIN_S = 120.0
POLL_S = 0.25


def check_installed(names: Sequence[str]) -> None:
    """Do nothing if all of these packages are there.

    Raises:
        TargetError: one is not.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise TargetError(f"the relay needs {', '.join(missing)}, not installed here; pip install -e '.[examples]'")


class RelayServer(LocalServer):
    """``python -m examples.relay`` on a free port; its address is that of its page."""

    name = "relay"

    def __init__(self, log_path: Path, service: str, model: str) -> None:
        """Nothing is started yet.

        Args:
            log_path: where what it says goes; the folder must exist.
            service: address of the service.
            model: that its peers get.
        """
        super().__init__(log_path, ["--server", service, "--model", model])

    def command(self) -> list[str]:
        """Without service and model."""
        return [sys.executable, "-u", "-m", "examples.relay", "--host", "127.0.0.1", "--port", "0"]

    def environment(self) -> Mapping[str, str]:
        """The user's own: the variables of `LocalServer` are the service's."""
        return os.environ

    def is_ready(self, line: str) -> bool:
        """Whether a line of its log names the page."""
        found = re.search(r"Running on (http://[\d.]+:\d+)", line)
        if found:
            self.address = found[1]
        return found is not None

    def has_peer(self) -> bool:
        """Whether one was connected."""
        return "is connected" in self.log_path.read_text(encoding="utf-8", errors="replace")


def call(
    relay: RelayServer,
    service: LocalServer,
    *,
    codec: str,
    clip: Path,
    fps: int,
    seconds: float,
    log_path: Path,
    show: Callable[[float], None],
) -> dict[str, Any]:
    """Have a peer send the clip; what it says of the call.

    Args:
        relay: where it calls.
        service: behind the relay.
        codec: VP8 or H264.
        clip: what it sends.
        fps: frames a second.
        seconds: how long pictures come back.
        log_path: where its complaints go.
        show: told now and then for how many seconds the peer has been connected.

    Raises:
        TargetError: one of the three ended too early, or nothing came back.
    """
    command = [
        sys.executable, "-m", "examples.peer", "--relay", relay.address, "--codec", codec,
        "--fps", str(fps), "--seconds", str(seconds), str(clip),
    ]  # fmt: skip
    with log_path.open("wb") as log:
        # A session of its own: Ctrl-C in the terminal reaches us alone.
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    try:
        deadline_s = time.monotonic() + seconds + PEER_MARGIN_S
        connected_s: float | None = None
        while process.poll() is None:
            _check_alive(relay, service)
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise TargetError(f"the peer with {codec} did not end within {seconds + PEER_MARGIN_S:g} s")
            if connected_s is None and relay.has_peer():
                connected_s = now_s
            if connected_s is not None:
                show(now_s - connected_s)
            time.sleep(POLL_S)
        assert process.stdout is not None
        said = process.stdout.read().decode()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    if process.returncode:
        # The peer only sees that its call ended; why is for those to say who ended it.
        _check_alive(relay, service)
    complaints = log_path.read_text(encoding="utf-8", errors="replace")
    try:
        return read_peer(process.returncode, said, complaints)
    except TargetError as error:
        raise TargetError(f"{codec}: {error}\nthe end of {relay.log_path}:\n{relay.log_tail()}") from None


def read_peer(status: int, said: str, complaints: str) -> dict[str, Any]:
    """The one line of a peer that has ended; with ``relay`` the figures of its one track.

    Raises:
        TargetError: it failed, nothing came back, or none of what came back is a picture of the service.
    """
    if not said.strip():
        lines = complaints.strip().splitlines() or ["it says nothing"]
        raise TargetError(f"the peer ended with status {status}: {lines[-1]}")
    peer: dict[str, Any] = json.loads(said)
    if not peer["back"]:
        raise TargetError(f"the peer sent {peer['sent']} frames and got none back")
    if len(peer["relay"]) != 1:
        raise TargetError(f"the relay has figures of {len(peer['relay'])} tracks; one peer was to be there")
    (relay,) = peer["relay"]
    if not relay["composed"]:
        raise TargetError(
            f"the service made no picture of {relay['received']} frames; back came the background alone"
            f" ({relay['background_only']})"
        )
    return {**peer, "relay": relay}


def _check_alive(relay: RelayServer, service: LocalServer) -> None:
    # The service first: where both are gone, it is the likelier reason.
    service.check_alive()
    relay.check_alive()
