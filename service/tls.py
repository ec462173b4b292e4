"""The server's certificate, and the authority of its clients' ones, read anew when they change on disk."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.watched_file import WatchedFile


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files are."""

    certificate: Path
    key: Path
    client_authority: Path | None
    """Where there is one, a client needs a certificate of it (mTLS)."""


def watch(files: TlsFiles) -> WatchedFile[grpc.ServerCertificateConfiguration]:
    """The files, read anew when they change.

    Raises:
        SecretFileError: the files cannot be used.
    """
    paths = (files.certificate, files.key) + ((files.client_authority,) if files.client_authority else ())
    return WatchedFile(paths, lambda *pems: _configuration(files, *pems))


def server_credentials(
    watched: WatchedFile[grpc.ServerCertificateConfiguration], *, asks_clients: bool
) -> grpc.ServerCredentials:
    """Credentials that take over changed files with the next handshake; connections that are open stay as they are.

    ``asks_clients``: a client needs a certificate of the authority among the files (mTLS).
    """
    in_use = [watched.current()]

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC at each handshake; None is "as before"."""
        current = watched.current()
        if current is in_use[0]:
            return None
        in_use[0] = current
        return current

    make: Callable[..., grpc.ServerCredentials] = grpc.dynamic_ssl_server_credentials
    return make(watched.current(), changed, require_client_authentication=asks_clients)


def _configuration(
    files: TlsFiles, certificate: bytes, key: bytes, client_authority: bytes | None = None
) -> grpc.ServerCertificateConfiguration:
    """Of PEM bytes that OpenSSL takes: gRPC itself would find a mistake only at the next handshake, and say nothing.

    Raises:
        ValueError: they are no certificate, no key without a password, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # From the files once more: OpenSSL's Python face reads no bytes. A change in between is seen at the next look.
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        if files.client_authority is not None:
            context.load_verify_locations(files.client_authority)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"not a certificate chain and its key ({getattr(error, 'reason', None) or error})") from None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_authority)


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("the key has a password; the service takes one without")
