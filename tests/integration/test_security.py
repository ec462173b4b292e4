"""A server that lets in whom it should, over real certificates and tokens that change while it runs."""

import asyncio
import hashlib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest

from humanseg import (
    AccessDeniedError,
    FramePolicy,
    MaskAnswer,
    OverloadedError,
    SegmentationClient,
    SegmentationError,
    ServerUnavailableError,
    SessionConfig,
    Size,
    TlsFiles,
)
from humanseg.v1 import segmentation_pb2 as pb
from support.certificates import Authority
from support.server import ROOT, RunningServer, running_server
from support.stream import open_stream
from support.timing import limit_s

W, H = 160, 96
CONFIG = SessionConfig(Size(W, H), frame_policy=FramePolicy.EVERY)
PICTURE = np.zeros((H, W, 3), np.uint8)
ACME, UMBRELLA, LATER = (hashlib.sha256(name).hexdigest() for name in (b"acme", b"umbrella", b"later"))


def token_line(token: str, tenant: str, quota: int) -> str:
    return f"{hashlib.sha256(token.encode()).hexdigest()} {tenant} {quota}\n"


async def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + limit_s(20)
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.2)


class Site:
    """Files of a server that asks for everything."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.tokens = folder / "tokens"
        self.renew(101)
        self.tokens.write_text(token_line(ACME, "acme", 1) + token_line(UMBRELLA, "umbrella", 0))
        self.client_files = TlsFiles(self.authority.certificate, *self.authority.sign("client", 5))

    def renew(self, serial: int) -> None:
        certificate, key = self.authority.sign("server", serial)
        self.key.write_bytes(key.read_bytes())
        self.certificate.write_bytes(certificate.read_bytes())

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key),
            "--tls-client-ca-file", str(self.authority.certificate), "--auth-tokens-file", str(self.tokens),
        )  # fmt: skip

    def client(self, server: RunningServer, token: str | None = ACME) -> SegmentationClient:
        target = f"localhost:{server.port}"
        return SegmentationClient(target, credentials=self.client_files.credentials(), token=token)

    def serial_seen(self, server: RunningServer) -> int:
        """Of the certificate that the server shows now."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        assert self.client_files.certificate is not None
        context.load_cert_chain(self.client_files.certificate, self.client_files.key)
        with (
            socket.create_connection(("127.0.0.1", server.port), limit_s(10)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            shown = secure.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16)


async def test_a_server_that_asks_for_certificates_and_tokens(models_folder: Path, tmp_path: Path) -> None:
    site = Site(tmp_path)
    with running_server(models_folder, *site.flags) as server:
        await outsiders_stay_outside(site, server)
        await tenants_have_their_quotas(site, server)
        await files_that_change_hold(site, server)
        healthy = subprocess_of("service.healthcheck", site, server)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        segmented = command_line(site, server, tmp_path)
        assert (segmented.returncode, segmented.stdout.split(",")[0]) == (0, "1 of 1 done"), segmented.stderr
        assert server.metric("humanseg_sessions_total", outcome="tenant_quota") == 1
        assert server.metric("humanseg_sessions_total", outcome="unauthenticated") >= 2
        server.terminate()
        assert await asyncio.to_thread(server.wait) == 0
    for secret in (ACME, UMBRELLA, LATER, *site.tokens.read_text().split(), "PRIVATE KEY"):
        assert secret in ("acme", "umbrella", "0", "1") or secret not in server.log()
    assert "tenant=acme" in server.log()
    assert "tokens_in_the_clear" not in server.log()


async def outsiders_stay_outside(site: Site, server: RunningServer) -> None:
    stranger = TlsFiles(site.authority.certificate).credentials()
    for target, credentials in ((f"127.0.0.1:{server.port}", None), (f"localhost:{server.port}", stranger)):
        async with SegmentationClient(target, credentials=credentials, token=ACME) as client:
            with pytest.raises(ServerUnavailableError):
                await client.list_models()
    for token in (None, LATER, hashlib.sha256(ACME.encode()).hexdigest()):
        async with site.client(server, token) as client:
            with pytest.raises(AccessDeniedError) as caught:
                await client.list_models()
            assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(AccessDeniedError):
                await client.segment(PICTURE)
            with pytest.raises(SegmentationError) as refused:
                async with client.stream(CONFIG):
                    pass
            # Of a config that crosses the refusal grpc.aio's client makes an INTERNAL of its own now and then.
            assert refused.value.reason in ("UNAUTHENTICATED", "")


async def tenants_have_their_quotas(site: Site, server: RunningServer) -> None:
    async with site.client(server) as client, client.stream(CONFIG) as stream:
        await stream.send(PICTURE)
        assert isinstance(await anext(stream), MaskAnswer)
        async with site.client(server) as again:
            with pytest.raises(OverloadedError, match="tenant acme has 1 streams open") as caught:
                async with again.stream(CONFIG):
                    pass
            assert caught.value.reason == "TENANT_QUOTA"
            assert caught.value.metadata == {"tenant_max_sessions": "1"}
            assert caught.value.retry_after_s == 2
        async with site.client(server, UMBRELLA) as other, other.stream(CONFIG), other.stream(CONFIG):
            pass


async def files_that_change_hold(site: Site, server: RunningServer) -> None:
    async with site.client(server) as client, client.stream(CONFIG) as stream:
        assert site.serial_seen(server) == 101
        site.renew(102)
        await until(lambda: site.serial_seen(server) == 102, "the new certificate is not shown")
        site.certificate.write_text("no certificate")
        await until(lambda: site.serial_seen(server) and "event=file_refused" in server.log(), "nothing was said")
        assert site.serial_seen(server) == 102, "what was good before stays in force"
        site.renew(103)
        await until(lambda: site.serial_seen(server) == 103, "mended files are not taken up")
        site.tokens.write_text(token_line(LATER, "acme", 1))
        await asyncio.sleep(1.1)
        async with site.client(server, UMBRELLA) as gone:
            with pytest.raises(AccessDeniedError):
                await gone.list_models()
        async with site.client(server, LATER) as come:
            await come.list_models()
        # A connection and a stream that are open stay as they are.
        await stream.send(PICTURE)
        assert isinstance(await anext(stream), MaskAnswer)


def subprocess_of(module: str, site: Site, server: RunningServer) -> "subprocess.CompletedProcess[str]":
    flags = {"HUMANSEG_TLS_CERT_FILE": str(site.certificate), "HUMANSEG_TLS_KEY_FILE": str(site.key)}
    ports = {"HUMANSEG_PORT": str(server.port), "HUMANSEG_METRICS_PORT": str(server.metrics_port)}
    return subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env={"PATH": "/usr/bin", **flags, **ports}, capture_output=True,
        text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def command_line(site: Site, server: RunningServer, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A photo through `python -m humanseg.segment`, with all that the server asks for."""
    photo, token = folder / "photo.png", folder / "token"
    assert cv2.imwrite(str(photo), PICTURE)
    token.write_text(LATER + "\n")
    files = site.client_files
    flags = ("--out", folder / "out", "--target", f"localhost:{server.port}", "--token-file", token)
    tls = ("--ca-file", files.authority, "--cert-file", files.certificate, "--key-file", files.key)
    return subprocess.run(
        [sys.executable, "-m", "humanseg.segment", *map(str, (*flags, *tls, photo))],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def readiness(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/ready", timeout=limit_s(10)) as answer:
        return str(answer.read().decode())


async def test_a_flood_is_read_at_the_rate_allowed_and_readiness_is_told_over_http(models_folder: Path) -> None:
    """The rest waits in the client. Frames of a wrong size cost next to nothing, so that nothing else holds it up."""
    with running_server(models_folder, "--max-messages-per-s", "3") as server:
        assert readiness(server) == "ready\n"
        async with open_stream(server.target) as stream:
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
            began_s = time.monotonic()

            async def flood() -> None:
                for frame_id in range(1, 13):
                    await stream.send(frame_id, b"x")

            flooding = asyncio.ensure_future(flood())
            for _ in range(12):
                assert (await stream.result()).drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT
            took_s = time.monotonic() - began_s
            await flooding
        # A lower bound, which a busy machine cannot break: twelve messages, the first two with the config at once.
        assert took_s > (12 - 2 - 1) / 3 - 0.05
