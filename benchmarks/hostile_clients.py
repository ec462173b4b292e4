"""Clients that behave badly, in one thread: ``python -m benchmarks.hostile_clients``, started by `benchmarks.hostile`.

Reads its plan from standard input, opens the idle streams and the slow readers, says ``opened``, and then connects and
vanishes at its times until standard input ends; then it says what it did. Prebuilt bytes on plain sockets: it shares
the CPUs with the server that it disturbs.
"""

import json
import math
import os
import selectors
import socket
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass

from benchmarks import http2

#: How long a call lives before its client vanishes: long enough to be opened, and answered if it had a config.
CALL_LIFE_S = 0.05
#: After so long a slow reader is given up and another one begins; longer than a server usually waits for it.
SLOW_READER_LIFE_S = 15.0
OPEN_TIMEOUT_S = 30.0
SOCKET_TIMEOUT_S = 1.0
LONGEST_WAIT_S = 1.0
#: Ways to vanish, in turn.
CONNECT, HELLO, CALL, CONFIG = "connect", "hello", "call", "config"
WAYS = (CONNECT, HELLO, CALL, CONFIG)
#: Closes with a reset instead of a farewell, as a client does that is killed with data unread.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class HostilePlan:
    """What to do to a server; messages are serialized, so that this process needs neither grpc nor protobuf."""

    host: str
    port: int
    path: str
    """Of the streaming call."""
    connects_per_s: float
    idle_streams: int
    slow_readers: int
    live_config: str
    """Hexadecimal: what a vanishing call sends."""
    idle_config: str
    slow_config: str
    slow_frames: list[str]
    """What a slow reader sends without reading what comes of it, together less than `http2.FIRST_WINDOW`."""

    def to_json(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))


class Trouble(Exception):
    """A client could not even begin to behave badly; one line for people."""


class Talker:
    """A connection with one call on it that keeps the rules of HTTP/2, as long as it reads."""

    def __init__(self, plan: HostilePlan, config: str) -> None:
        self.socket = connect(plan)
        self.accepted = False
        """Whether a message came: the answer to the config."""
        self._reader = http2.FrameReader()
        self.socket.sendall(http2.HELLO + call_of(plan) + http2.grpc_message(bytes.fromhex(config)))

    def read(self) -> bool:
        """Take in what came; whether the call is still there."""
        try:
            data = self.socket.recv(65_536)
            for frame in self._reader.feed(data):
                if answer := http2.reply(frame):
                    self.socket.sendall(answer)
                self.accepted = self.accepted or frame.kind == http2.DATA
                if frame.kind in (http2.RST_STREAM, http2.GOAWAY) or (frame.kind == http2.HEADERS and self.accepted):
                    return False  # headers after a message are the status
        except OSError:
            return False
        return bool(data)


class Crowd:
    """All hostile clients of one server."""

    def __init__(self, plan: HostilePlan) -> None:
        self._plan = plan
        self._selector = selectors.DefaultSelector()
        self._dying: deque[tuple[float, str, socket.socket]] = deque()
        self._slow: deque[tuple[float, socket.socket]] = deque()
        self._call = http2.HELLO + call_of(plan)
        self._config = self._call + http2.grpc_message(bytes.fromhex(plan.live_config))
        self.counts: Counter[str] = Counter()

    def open(self) -> None:
        """Open the streams that stay.

        Raises:
            Trouble: the server does not take them.
        """
        for _ in range(self._plan.idle_streams):
            talker = self._opened(self._plan.idle_config)
            self._selector.register(talker.socket, selectors.EVENT_READ, talker)
            self.counts["idle_opened"] += 1
        for _ in range(self._plan.slow_readers):
            self._begin_slow_reader()

    def run_until_told(self) -> float:
        """Vanish at the times of the plan until standard input ends; how long that was, in seconds."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        gap_s = 1 / self._plan.connects_per_s if self._plan.connects_per_s else math.inf
        began = time.monotonic()
        next_at = began if gap_s < math.inf else math.inf
        connects = 0
        while True:
            now = time.monotonic()
            if now >= next_at:
                self._vanish(WAYS[connects % len(WAYS)], now)
                connects += 1
                # From the number, never by adding up: no error grows, and what is late is made up for.
                next_at = began + connects * gap_s
            while self._dying and self._dying[0][0] <= now:
                _, way, victim = self._dying.popleft()
                end_call(way, victim)
            if self._slow and self._slow[0][0] <= now:
                self._slow.popleft()[1].close()
                self._begin_slow_reader()
            due = min(next_at, now + LONGEST_WAIT_S, self._dying[0][0] if self._dying else math.inf)
            # Also where it is late: standard input must be heard however little CPU there is.
            for key, _ in self._selector.select(max(0.0, due - now)):
                if key.data is None:
                    return time.monotonic() - began
                if not key.data.read():
                    self._selector.unregister(key.fileobj)
                    key.data.socket.close()
                    self.counts["idle_ended"] += 1

    def _vanish(self, way: str, now: float) -> None:
        try:
            victim = connect(self._plan)
            if way == HELLO:
                victim.sendall(http2.HELLO)
            elif way == CALL:
                victim.sendall(self._call)
            elif way == CONFIG:
                victim.sendall(self._config)
        except OSError:
            self.counts["not_taken"] += 1
            return
        self.counts[way] += 1
        if way in (CALL, CONFIG):
            self._dying.append((now + CALL_LIFE_S, way, victim))
        else:
            victim.close()

    def _begin_slow_reader(self) -> None:
        """Read until the config is accepted; then send what the first window holds, and read nothing more."""
        talker = self._opened(self._plan.slow_config)
        talker.socket.sendall(b"".join(http2.grpc_message(bytes.fromhex(one)) for one in self._plan.slow_frames))
        self._slow.append((time.monotonic() + SLOW_READER_LIFE_S, talker.socket))
        self.counts["slow_readers"] += 1

    def _opened(self, config: str) -> Talker:
        talker = Talker(self._plan, config)
        talker.socket.settimeout(OPEN_TIMEOUT_S)
        while not talker.accepted:
            if not talker.read():
                raise Trouble("a stream that should stay idle was refused; are --max-sessions of the server enough?")
        talker.socket.settimeout(SOCKET_TIMEOUT_S)
        return talker


def connect(plan: HostilePlan) -> socket.socket:
    """A new connection."""
    return socket.create_connection((plan.host, plan.port), SOCKET_TIMEOUT_S)


def call_of(plan: HostilePlan) -> bytes:
    """The headers of the streaming call."""
    return http2.grpc_call(f"{plan.host}:{plan.port}", plan.path)


def end_call(way: str, victim: socket.socket) -> None:
    """One is killed (its connection is reset), the other one cancels and leaves in order."""
    try:
        if way == CALL:
            victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            victim.sendall(http2.cancel())
    except OSError:
        pass  # the server was faster
    victim.close()


def main() -> int:
    """Exit status for the parent, which gets the reason as a line before."""
    plan = HostilePlan(**json.loads(sys.stdin.readline()))
    os.nice(10)
    crowd = Crowd(plan)
    try:
        crowd.open()
    except (Trouble, OSError) as error:
        print(json.dumps({"event": "failed", "message": str(error)}), flush=True)
        return 1
    print(json.dumps({"event": "opened"}), flush=True)
    seconds = crowd.run_until_told()
    print(json.dumps({"event": "done", "seconds": seconds, "counts": crowd.counts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
