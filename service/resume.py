"""Resume tokens: a session's memory, sealed, so that a client can carry it to another replica.

A token is a version byte, a JSON header, the fusion's state (`humanseg.vision.snapshot`) and an HMAC-SHA256 over all of
it and over the tenant that it was given to. Nothing of it is looked at before the signature holds, so that whoever has
no key can feed the decoders nothing. It is signed and not encrypted: the client sent the picture that is in it.

A token that is of no use never ends a stream. It starts anew, and the client is told why.
"""

import enum
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.snapshot import SnapshotError, pack_state, unpack_state
from service import log
from service.pipeline import Fit, FusionMemory
from service.watched_file import WatchedFile

VERSION = 1
LARGEST_TOKEN_BYTES = 40 * 1024
SHORTEST_KEY = 32

_SIGNATURE_BYTES = hashlib.sha256().digest_size
_LARGEST_HEADER_BYTES = 1024
_HEADER_LENGTH_BYTES = 2
#: By how much the clocks of two replicas may differ.
_CLOCK_SKEW_S = 10.0
#: Pixels of the largest network input there is by far; a bound for a header that a signature vouches for anyway.
_LARGEST_PX = 1 << 22


class ResumeOutcome(enum.Enum):
    """What became of a token; names are those of the proto's ``ResumeOutcome``."""

    RESUMED = enum.auto()
    MALFORMED = enum.auto()
    NOT_AUTHENTIC = enum.auto()
    EXPIRED = enum.auto()
    OTHER_VERSION = enum.auto()
    OTHER_MODEL = enum.auto()


class TokenRefused(Exception):
    """A token of no use here; ``outcome`` says why."""

    def __init__(self, outcome: ResumeOutcome) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


class Keys:
    """The keys that sign tokens: from a file that all replicas share, or one of this server alone."""

    def __init__(self, path: Path | None, own: bytes | None = None) -> None:
        """Read the file; without one take the ``own`` key, which several processes may share, or make one up.

        Raises:
            SecretFileError: the file cannot be used.
        """
        self._own = () if path is not None else (own or make_key(),)
        self._file = None if path is None else WatchedFile((path,), parse_keys)

    @property
    def file(self) -> WatchedFile[tuple[bytes, ...]] | None:
        """The file of keys; None where there is none."""
        return self._file

    def current(self) -> tuple[bytes, ...]:
        """The keys that are accepted; the first one signs."""
        return self._own if self._file is None else self._file.current()


def make_key() -> bytes:
    """A key where no file has one, for one server and as long as it runs."""
    log.event("resume_key_random", why="no --resume-key-file: tokens hold for this server only, until it stops")
    return secrets.token_bytes(SHORTEST_KEY)


def parse_keys(data: bytes) -> tuple[bytes, ...]:
    """Keys, one a line, the first signs; so that a new one can be brought in before the old one goes.

    Raises:
        ValueError: no key, or one that is too short.
    """
    keys = tuple(line.strip() for line in data.splitlines() if line.strip() and not line.startswith(b"#"))
    if not keys:
        raise ValueError("holds no key; write one a line, for example of `openssl rand -hex 32`")
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"key {number} has {len(key)} characters, at least {SHORTEST_KEY} are needed")
    return keys


class Sealer:
    """Makes tokens and opens them. Costs milliseconds: for a thread, not for the event loop."""

    def __init__(self, keys: Keys, max_age_s: float, versions: Mapping[str, str]) -> None:
        """``versions``: model -> version; masks of another one are not fused with its own."""
        self._keys = keys
        self._max_age_s = max_age_s
        self._versions = versions

    def seal(self, memory: FusionMemory, tenant: str) -> bytes | None:
        """A token of what a session remembers; None where that is nothing, or too much for a token.

        The clock is the world's, the only one that replicas share.
        """
        fit = memory.fit
        if fit is None:
            return None
        (canvas, inner), (rotation, mirrored) = fit.geometry, fit.orientation
        header = {
            "issued_s": round(time.time(), 3),
            "model": fit.model,
            "version": self._versions[fit.model],
            "canvas": canvas,
            "inner": inner,
            "rotation": rotation.name,
            "mirrored": mirrored,
            "unfused": memory.is_unfused,
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > _LARGEST_HEADER_BYTES:
            return None
        head = bytes((VERSION,)) + len(text).to_bytes(_HEADER_LENGTH_BYTES, "big") + text
        packed = pack_state(memory.state, LARGEST_TOKEN_BYTES - len(head) - _SIGNATURE_BYTES)
        if packed is None:
            return None
        return head + packed + _sign(self._keys.current()[0], head + packed, tenant)

    def open(self, token: bytes, model: str, tenant: str) -> FusionMemory:
        """What the session of the token remembered, for one that uses ``model``.

        Raises:
            TokenRefused: it is of no use here.
        """
        if not 1 + _HEADER_LENGTH_BYTES + _SIGNATURE_BYTES <= len(token) <= LARGEST_TOKEN_BYTES:
            raise TokenRefused(ResumeOutcome.MALFORMED)
        if token[0] != VERSION:
            raise TokenRefused(ResumeOutcome.OTHER_VERSION)
        content, signature = token[:-_SIGNATURE_BYTES], token[-_SIGNATURE_BYTES:]
        if not any(hmac.compare_digest(signature, _sign(key, content, tenant)) for key in self._keys.current()):
            raise TokenRefused(ResumeOutcome.NOT_AUTHENTIC)
        return _read_content(content, (model, self._versions[model]), self._max_age_s)


def _sign(key: bytes, content: bytes, tenant: str) -> bytes:
    # The tenant first and with its length, so that no two pairs sign the same bytes.
    owner = tenant.encode()
    return hmac.digest(key, len(owner).to_bytes(4, "big") + owner + content, "sha256")


def _read_size(sides: list[int]) -> Size:
    width, height = sides
    return Size(int(width), int(height))


def _read_content(content: bytes, model: tuple[str, str], max_age_s: float) -> FusionMemory:
    """Of a content that a signature vouches for; still checked, since a key may have leaked."""
    start = 1 + _HEADER_LENGTH_BYTES
    end = start + int.from_bytes(content[1:start], "big")
    try:
        header = json.loads(content[start:end])
        age_s = time.time() - float(header["issued_s"])
        made_by = header["model"], header["version"]
        geometry = _read_size(header["canvas"]), _read_size(header["inner"])
        orientation = Rotation[header["rotation"]], bool(header["mirrored"])
        is_unfused = bool(header["unfused"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise TokenRefused(ResumeOutcome.MALFORMED) from None
    if not -_CLOCK_SKEW_S <= age_s <= max_age_s:
        raise TokenRefused(ResumeOutcome.EXPIRED)
    if made_by != model:
        raise TokenRefused(ResumeOutcome.OTHER_MODEL)
    try:
        state = unpack_state(content[end:], _LARGEST_PX)
    except SnapshotError:
        raise TokenRefused(ResumeOutcome.MALFORMED) from None
    if state.memory is None or Size.of(state.memory.gray) != geometry[1]:
        raise TokenRefused(ResumeOutcome.MALFORMED)
    return FusionMemory(state, Fit(model[0], geometry, orientation), is_unfused)
