"""Where a client finds a server, and what it shows one that asks who it is: certificates and a bearer token."""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for an encrypted connection.

    Attributes:
        authority: certificates of those who may vouch for the server; None for the ones that gRPC carries.
        certificate: this client's own chain, where the server asks for one (mTLS); with ``key``.
        key: its key.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For `SegmentationClient`. The files are read now; make new ones when they have changed.

        Raises:
            ValueError: one of ``certificate`` and ``key`` without the other.
            OSError: a file cannot be read.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError(f"certificate {self.certificate} and key {self.key} belong together; give both or neither")
        authority, key, certificate = (
            None if path is None else path.read_bytes() for path in (self.authority, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(authority, key, certificate)


def check_target(text: str) -> None:
    """Do nothing with a target that a command takes: ``HOST:PORT``, or ``unix:PATH`` of a server on this machine.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("unix:") and text != "unix:":
        return
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:50051, nor unix:PATH")


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...] | None:
    """What goes with every call.

    Raises:
        ValueError: a token that no header can carry. It is not shown.
    """
    if token is None:
        return None
    if not token.strip() or not token.isascii() or not token.isprintable():
        raise ValueError("the token is empty, or has characters other than printable ASCII; was the file read whole?")
    return (("authorization", f"Bearer {token.strip()}"),)
