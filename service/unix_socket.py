"""A Unix socket to listen on, beside TCP or in its place: claimed without taking it from anybody, removed at the end.

gRPC itself removes whatever socket it finds at the path, that of a live server as well, and says nothing about why a
path cannot be had. So the path is tried out first, and the folder is locked meanwhile: two servers that start at once
would both find the same dead socket.
"""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import grpc

from service import log

#: Of a path, in bytes: sockaddr_un has 108, the last of them is 0.
LONGEST_PATH_BYTES = 107
#: The server's user and group may connect; the socket's group is that of a folder with the setgid bit.
MODE = 0o660
#: How long a server that listens may take to accept, before it counts as busy (and alive).
CONNECT_TIMEOUT_S = 1.0


class SocketRefused(Exception):
    """The path cannot be had; one line for people."""


def address_of(path: Path) -> str:
    """A path as gRPC's name for it: there, ``%``, ``?`` and ``#`` mean something."""
    return f"unix:{quote(os.fspath(path))}"


def check_path(path: Path) -> None:
    """Do nothing with a path that fits.

    Raises:
        ValueError: it is too long for a socket.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_PATH_BYTES:
        raise ValueError(
            f"{path} has {length} bytes, a socket's path has at most {LONGEST_PATH_BYTES}; choose a shorter one"
        )


@contextmanager
def listening_on(server: grpc.aio.Server, path: Path | None) -> Iterator[None]:
    """The server listens on the path as well, without encryption, and at the end the socket is gone; None: nothing.

    Raises:
        SocketRefused: the path cannot be had.
    """
    if path is None:
        yield
        return
    with _locked(path.parent):
        _claim(path)
        before = os.umask(0o777 & ~MODE)
        try:
            server.add_insecure_port(address_of(path))
            ours = _identity(path)
        except (RuntimeError, OSError) as error:
            raise SocketRefused(f"cannot listen on {path}: {error}") from None
        finally:
            os.umask(before)
    log.event("socket_ready", path=str(path))
    try:
        yield
    finally:
        # Another server's, if somebody took ours away and it came after.
        with suppress(OSError):
            if _identity(path) == ours:
                path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SocketRefused(f"cannot listen in {folder}: {error.strerror}; the folder must be there") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _claim(path: Path) -> None:
    """Nothing is at the path afterwards, and a socket can be made there.

    Raises:
        SocketRefused: something is, or none can.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketRefused(f"cannot listen on {path}: it exists and is no socket; choose another path")
        if _is_served(path):
            raise SocketRefused(f"cannot listen on {path}: another server does; stop it, or choose another path")
    try:
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.bind(os.fspath(path))
        path.unlink()
    except OSError as error:
        raise SocketRefused(f"cannot listen on {path}: {error.strerror}; choose a folder that can be written") from None


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            # Alive but too busy to answer, or not for us to ask: not ours to remove in any case.
            return True
        return True


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
