"""Tokens, certificates and keys from files: what is taken, what is refused, and that changes are seen."""

import hashlib
from pathlib import Path

import pytest

from service import watched_file
from service.access import ANYBODY, Gate, Tenant, parse_tokens
from service.call_errors import CallError, Reason
from service.rate import MessageRate
from service.tls import TlsFiles, server_credentials, watch
from service.watched_file import SecretFileError, WatchedFile
from support.certificates import Authority

TOKEN = "a" * 40
OTHER = "b" * 40


def line(token: str, tenant: str, quota: str = "") -> str:
    return f"{hashlib.sha256(token.encode()).hexdigest()} {tenant} {quota}\n"


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "LOOK_INTERVAL_S", 0.0)


def refusal(gate: Gate, *metadata: tuple[str, str | bytes]) -> str:
    with pytest.raises(CallError) as caught:
        gate.tenant_of(metadata)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    return str(caught.value)


def test_a_token_is_that_of_its_tenant(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# who may call\n\n" + line(TOKEN, "acme", "3") + line(OTHER, "umbrella"))
    gate = Gate(file)
    assert gate.tenant_of([("user-agent", "x"), ("authorization", f"Bearer {TOKEN}")]) == Tenant("acme", 3)
    assert gate.tenant_of([("authorization", f"bearer  {OTHER} ")]) == Tenant("umbrella", 0)
    assert "no bearer token" in refusal(gate)
    assert "no bearer token" in refusal(gate, ("authorization", f"Basic {TOKEN}"))
    assert "no bearer token" in refusal(gate, ("authorization", b"Bearer " + TOKEN.encode()))
    assert "no bearer token" in refusal(gate, ("authorization", "Bearer short"))
    assert "not known" in refusal(gate, ("authorization", f"Bearer {TOKEN}x"))
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert digest not in refusal(gate, ("authorization", f"Bearer {digest}")), "a hash is no token"


def test_workers_share_the_streams_of_a_tenant_rounded_up(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line(TOKEN, "acme", "5") + line(OTHER, "umbrella"))
    gate = Gate(file, workers=4)
    assert gate.tenant_of([("authorization", f"Bearer {TOKEN}")]) == Tenant("acme", 2)
    assert gate.tenant_of([("authorization", f"Bearer {OTHER}")]) == Tenant("umbrella", 0), "0 is no limit"


def test_without_a_file_anybody_may_call() -> None:
    assert Gate(None).tenant_of([]) is ANYBODY


def test_a_changed_file_holds_from_then_on_and_a_broken_one_never(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line(TOKEN, "acme"))
    gate = Gate(file)
    file.write_text(line(OTHER, "acme") + "# longer\n")
    assert gate.tenant_of([("authorization", f"Bearer {OTHER}")]).name == "acme"
    refusal(gate, ("authorization", f"Bearer {TOKEN}"))
    file.write_text("what is this")
    assert gate.tenant_of([("authorization", f"Bearer {OTHER}")]).name == "acme"
    file.unlink()
    assert gate.tenant_of([("authorization", f"Bearer {OTHER}")]).name == "acme"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no token"),
        (line(TOKEN, ""), "line 1 is not `HASH TENANT"),
        (line(TOKEN, "acme", "many"), "line 1 is not `HASH TENANT"),
        (f"{TOKEN} acme", "64 hexadecimal digits"),
        (line(TOKEN, "acme") * 2, "line 2 repeats"),
        (line(TOKEN, "acme", "2") + line(OTHER, "acme", "3"), "line 2 gives acme 3 sessions, an earlier one 2"),
        (line(TOKEN, "a" * 65), "up to 64 printable"),
    ],
)
def test_a_file_of_tokens_that_will_not_do(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_tokens(text.encode())
    assert TOKEN not in str(caught.value)


def test_a_file_that_is_not_there_or_far_too_large(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="cannot read"):
        Gate(tmp_path / "nothing")
    (tmp_path / "film").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(SecretFileError, match="more than 1048576 bytes"):
        WatchedFile((tmp_path / "film",), lambda data: data)


def test_a_file_is_not_looked_at_for_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "LOOK_INTERVAL_S", 3600.0)
    file = tmp_path / "file"
    file.write_bytes(b"one")
    watched = WatchedFile((file,), lambda data: data)
    file.write_bytes(b"another")
    assert watched.current() == b"one"


def test_a_file_is_refused_until_it_can_be_used_again(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line(TOKEN, "acme"))
    gate = Gate(file)
    assert gate.file is not None
    assert not gate.file.is_refused()
    file.write_text("no line of such a file")
    assert [gate.file.is_refused(), gate.file.is_refused()] == [True, True], "not only at the moment of the change"
    file.write_text(line(TOKEN, "umbrella"))
    assert not gate.file.is_refused()


def test_certificates_that_will_not_do(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("server", 1)
    _, other_key = authority.sign("other", 2)
    server_credentials(watch(TlsFiles(certificate, key, authority.certificate)), asks_clients=True)
    with pytest.raises(SecretFileError, match="KEY_VALUES_MISMATCH"):
        watch(TlsFiles(certificate, other_key, None))
    with pytest.raises(SecretFileError, match="not a certificate chain"):
        watch(TlsFiles(key, certificate, None))
    with pytest.raises(SecretFileError, match="not a certificate chain"):
        watch(TlsFiles(certificate, key, key))


def test_a_stream_is_read_at_its_rate_and_a_burst_at_once() -> None:
    rate = MessageRate(10.0, 0)
    assert [rate.take(0) for _ in range(10)] == [0.0] * 10
    assert rate.take(0) == pytest.approx(0.1)
    assert rate.take(0) == pytest.approx(0.2), "who goes on all the same waits longer"
    assert rate.take(10**9) == 0.0
    assert [MessageRate(0.0, 0).take(0) for _ in range(3)] == [0.0] * 3
