"""Claiming a socket's path, against grpc's own server: what is refused, what is taken over, what is left behind."""

import os
import socket
import stat
from pathlib import Path

import grpc
import pytest
from grpc import aio

from service.unix_socket import MODE, SocketRefused, address_of, listening_on
from support.timing import limit_s


async def is_served(path: Path) -> bool:
    """Whether a gRPC server answers there, be it that it has no such method."""
    async with aio.insecure_channel(address_of(path)) as channel:
        try:
            await channel.unary_unary("/nobody/Has")(b"", timeout=limit_s(5))
        except aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return True


async def test_a_path_with_marks_that_mean_something_to_grpc_is_served_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "50 %25 off?#"
    folder.mkdir()
    path = folder / "s"
    server = aio.server()
    before = os.umask(0)
    os.umask(before)
    with listening_on(server, path):
        await server.start()
        assert await is_served(path)
        assert stat.S_IMODE(path.stat().st_mode) == MODE
        await server.stop(None)
    assert list(folder.iterdir()) == []
    assert os.umask(before) == before, "files that come later are made as before"


async def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket(), "it outlives its process"
    server = aio.server()
    with listening_on(server, path):
        await server.start()
        assert await is_served(path)
        await server.stop(None)


async def test_a_live_servers_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, second = aio.server(), aio.server()
    with listening_on(first, path):
        await first.start()
        with pytest.raises(SocketRefused, match="another server does"), listening_on(second, path):
            pass
        assert await is_served(path)
        await first.stop(None)


async def test_a_socket_that_took_the_place_of_ours_is_not_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "s", tmp_path / "other"
    server = aio.server()
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(other))
        with listening_on(server, path):
            other.rename(path)
        assert path.is_socket()
    await server.stop(None)


def file_at(path: Path) -> Path:
    path.write_text("kept")
    return path


def link_at(path: Path) -> Path:
    path.symlink_to(path.parent / "elsewhere")
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (file_at, "it exists and is no socket"),
        (link_at, "it exists and is no socket"),
        (lambda path: path.parent, "it exists and is no socket"),
        (lambda path: path.parent / "missing" / "s", "No such file or directory; the folder must be there"),
        (lambda path: file_at(path) / "s", "Not a directory"),
        # Not even root makes a socket there.
        (lambda _: Path("/sys/s"), "choose a folder that can be written"),
    ],
)
async def test_a_path_that_cannot_be_had_is_refused_in_one_line_and_left_as_it_was(
    make: "object", reason: str, tmp_path: Path
) -> None:
    path: Path = make(tmp_path / "taken")  # type: ignore[operator]
    with pytest.raises(SocketRefused, match=reason) as caught, listening_on(aio.server(), path):
        pass
    assert "\n" not in str(caught.value)
    assert str(path if "the folder" not in reason and "Not a" not in reason else path.parent) in str(caught.value)
    taken = tmp_path / "taken"
    assert not taken.is_file() or taken.read_text() == "kept"
