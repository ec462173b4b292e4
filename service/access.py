"""Who may call: bearer tokens, each of a tenant, and how many streams a tenant may have at once.

The file holds hashes, never tokens: whoever reads it cannot call. Tokens are long random strings, so that one round of
SHA-256 is enough; a slow hash is for passwords. It is asked at the beginning of a call, not during it: a stream that is
open when its token is taken out of the file lives until its end (`--max-stream-age-s` bounds that).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.call_errors import CallError, Reason
from service.watched_file import WatchedFile

#: 256 random bits in hexadecimal have 64; what is much shorter can be guessed.
SHORTEST_TOKEN = 32
_LONGEST_TOKEN = 4096
_NO_TOKEN = f"no bearer token of {SHORTEST_TOKEN} to {_LONGEST_TOKEN} characters"
_SCHEME = "bearer "
_NAME_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who may call."""

    name: str
    max_sessions: int
    """Streams at once, in this process; 0: as many as the server takes."""


#: Who calls where no tokens are asked for.
ANYBODY = Tenant("", 0)


class Gate:
    """Knows the tenant of a call by its metadata."""

    def __init__(self, path: Path | None, *, workers: int = 1) -> None:
        """Read the file of tokens; without one anybody may call. ``workers`` share each tenant's streams, rounded up.

        Raises:
            SecretFileError: the file cannot be used.
        """
        self._workers = workers
        self._file = None if path is None else WatchedFile((path,), parse_tokens)

    @property
    def file(self) -> WatchedFile[Mapping[str, Tenant]] | None:
        """The file of tokens; None where none are asked for."""
        return self._file

    def tenant_of(self, metadata: Iterable[tuple[str, str | bytes]]) -> Tenant:
        """Whose call this is.

        Raises:
            CallError: UNAUTHENTICATED, without a hint at what is near.
        """
        if self._file is None:
            return ANYBODY
        token = _bearer_token(metadata)
        tenant = self._file.current().get(hashlib.sha256(token.encode()).hexdigest()) if token else None
        if tenant is None:
            what = "the bearer token is not known here" if token else _NO_TOKEN
            raise CallError(Reason.UNAUTHENTICATED, f"{what}; send metadata `authorization: Bearer TOKEN`")
        return replace(tenant, max_sessions=-(-tenant.max_sessions // self._workers))


def parse_tokens(data: bytes) -> Mapping[str, Tenant]:
    """SHA-256 of a token in hexadecimal -> its tenant. A line is ``HASH TENANT [MAX_SESSIONS]``.

    Raises:
        ValueError: a line cannot be read, a token stands twice, or the lines of a tenant contradict each other.
    """
    tenants: dict[str, Tenant] = {}
    quotas: dict[str, int] = {}
    for number, line in enumerate(data.decode().splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3) or not (len(words) == 2 or words[2].isdecimal()):
            raise ValueError(f"line {number} is not `HASH TENANT [MAX_SESSIONS]`")
        digest, name, quota = words[0].lower(), words[1], int(words[2]) if len(words) == 3 else 0
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ValueError(f"line {number} does not begin with 64 hexadecimal digits; hash the token by sha256sum")
        if len(name) > _NAME_LIMIT or not name.isascii() or not name.isprintable():
            raise ValueError(f"line {number}: a tenant's name has up to {_NAME_LIMIT} printable ASCII characters")
        if digest in tenants:
            raise ValueError(f"line {number} repeats a token")
        if quotas.setdefault(name, quota) != quota:
            raise ValueError(
                f"line {number} gives {name} {quota} sessions, an earlier one {quotas[name]}; give one number"
            )
        tenants[digest] = Tenant(name, quota)
    if not tenants:
        raise ValueError("holds no token; write `HASH TENANT [MAX_SESSIONS]` lines")
    return tenants


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token, empty where there is none that could be one."""
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            token = value[len(_SCHEME) :].strip()
            return token if SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN else ""
    return ""
