"""A server on a Unix socket: streams over it, alone or beside TCP, and what starts and ends leave behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2

from humanseg.client import SegmentationClient
from humanseg.vision.arrays import Size
from service.unix_socket import address_of
from support.server import ROOT, running_server
from support.stream import red_gradient
from support.timing import limit_s

SIZE = Size(160, 96)


async def mask_over(target: str) -> bytes:
    async with SegmentationClient(target) as client:
        async for _, alpha8 in client.masks([red_gradient(*SIZE)], model="medium"):
            return bytes(alpha8.tobytes())
    raise AssertionError("no mask came")


def command(module: str, *flags: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HUMANSEG_")}
    return subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=ROOT, env={**clean, "GRPC_VERBOSITY": "ERROR", **environment},
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


async def test_a_stream_over_the_socket_gets_the_masks_that_tcp_gives(models_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with running_server(models_folder, "--socket-file", str(path)) as server:
        assert f"event=socket_ready path={path}" in server.log()
        assert await mask_over(address_of(path)) == await mask_over(server.target)
        assert "peer=unix:" in server.log()
        photo, out = tmp_path / "photo.png", tmp_path / "masks"
        cv2.imwrite(str(photo), red_gradient(*SIZE))
        done = command("humanseg.segment", "--target", address_of(path), "--out", str(out), str(photo))
        assert (done.returncode, len(list(out.iterdir()))) == (0, 1), done.stderr
        server.terminate()
        assert server.wait() == 0
    assert not path.exists()


async def test_without_tcp_the_socket_is_all_there_is(models_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--socket-file", str(path), "--no-tcp", "--port", str(port)]
    with running_server(models_folder, *flags) as server:
        assert server.port == 0
        assert len(await mask_over(address_of(path))) == SIZE.area_px
        with socket.socket() as caller:
            assert caller.connect_ex(("127.0.0.1", port)) != 0
        asked = {"HUMANSEG_SOCKET_FILE": str(path), "HUMANSEG_TCP": "false"}
        assert command("service.healthcheck", **asked).returncode == 0
        second = command(
            "service", "--models", str(models_folder), "--metrics-port", "0", "--port", "0", "--socket-file", str(path)
        )
        assert second.returncode == 1
        assert "event=start_failed" in second.stderr.splitlines()[-1]
        assert "another server does" in second.stderr.splitlines()[-1]
        # A process that could not end in order leaves its socket, and the next one takes it over.
        server.process.send_signal(signal.SIGKILL)
        server.wait()
        refused = command("service.healthcheck", **asked)
        assert (refused.returncode, path.is_socket()) == (1, True)
        assert f"the server on unix:{path} is UNAVAILABLE" in refused.stderr
    with running_server(models_folder, *flags):
        assert len(await mask_over(address_of(path))) == SIZE.area_px
