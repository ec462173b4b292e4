"""Settings: precedence, and that nothing misspelt or out of range gets through."""

from pathlib import Path

import pytest

from engines.remote import RemoteServers
from service.settings import Settings, SettingsError, build_parser, load_settings


def test_the_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    assert load_settings([], {}).max_sessions == Settings().max_sessions
    assert load_settings([], {"HUMANSEG_MAX_SESSIONS": "7"}).max_sessions == 7
    assert load_settings(["--max-sessions", "9"], {"HUMANSEG_MAX_SESSIONS": "7"}).max_sessions == 9


def test_every_kind_of_value_is_read() -> None:
    settings = load_settings(
        ["--models", "somewhere", "--drain-s", "1.5", "--no-reflection"], {"HUMANSEG_LOG_FORMAT": "json"}
    )
    assert (settings.models, settings.drain_s, settings.reflection, settings.log_format) == (
        Path("somewhere"), 1.5, False, "json",
    )  # fmt: skip
    assert load_settings([], {"HUMANSEG_REFLECTION": "off"}).reflection is False
    assert load_settings([], {}).engine_cache is None
    assert load_settings([], {"HUMANSEG_ENGINE_CACHE": "/var/cache"}).engine_cache == Path("/var/cache")


def test_all_complaints_come_together_and_name_value_and_what_is_allowed() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(
            ["--port", "70000"],
            {"HUMANSEG_MAX_SESION": "3", "HUMANSEG_LOG_LEVEL": "loud", "HUMANSEG_DRAIN_S": "soon", "PATH": "ignored"},
        )
    text = str(caught.value)
    assert "--port: 70000 is out of range, allowed are 0 to 65535" in text
    assert "HUMANSEG_MAX_SESION: no such setting" in text
    assert "HUMANSEG_MAX_SESSIONS" in text
    assert "'loud' is not known, allowed are debug, info, warning, error" in text
    assert "'soon' is not a number" in text


@pytest.mark.parametrize(
    "arguments", [["--prot", "1"], ["--max-sessions"], ["stray"], ["--max-sessions", "1.5"], ["--engine", "gpu"]]
)
def test_a_bad_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SettingsError):
        load_settings(arguments, {})


def test_triton_and_its_addresses_belong_together() -> None:
    settings = load_settings(["--engine", "triton"], {"HUMANSEG_TRITON": "a:1,b:2", "HUMANSEG_TRITON_TIMEOUT_S": "0.5"})
    assert settings.triton_servers == RemoteServers(("a:1", "b:2"), 0.5)
    assert Settings.from_plain(settings.to_plain()).triton_servers == settings.triton_servers
    assert load_settings([], {}).triton_servers is None
    for arguments in (["--engine", "triton"], ["--triton", "a:1"]):
        with pytest.raises(SettingsError, match="--engine triton and --triton HOST:PORT belong together"):
            load_settings(arguments, {})
    shared = load_settings(["--engine", "triton", "--triton", "127.0.0.1:1", "--triton-shared-memory"], {})
    assert shared.triton_servers == RemoteServers(("127.0.0.1:1",), 1.0, shared_memory=True)
    with pytest.raises(SettingsError, match=r"--triton: 192\.0\.2\.1:1 cannot share memory: 192\.0\.2\.1 is"):
        load_settings(["--engine", "triton", "--triton", "192.0.2.1:1"], {"HUMANSEG_TRITON_SHARED_MEMORY": "true"})
    with pytest.raises(SettingsError, match="--triton-shared-memory is for the servers of --triton"):
        load_settings(["--triton-shared-memory"], {})
    with pytest.raises(SettingsError, match="--triton: address 'b' is not HOST:PORT, for example"):
        load_settings(["--engine", "triton", "--triton", "a:1,b"], {})


def test_an_abbreviated_flag_is_not_guessed() -> None:
    with pytest.raises(SettingsError):
        load_settings(["--max-sess", "3"], {})


def test_the_message_limit_follows_from_the_largest_frame() -> None:
    settings = load_settings(["--max-frame-px", str(1920 * 1080)], {})
    assert settings.max_frame_bytes == 1920 * 1080 * 3
    assert settings.max_message_bytes > settings.max_frame_bytes
    assert Settings().max_frame_bytes >= 1920 * 1080 * 3, "1080p RGB must fit by default"


def test_help_tells_files_from_folders() -> None:
    text = " ".join(build_parser().format_help().split())
    assert "--engine-cache DIR" in text
    assert "--models DIR" in text
    for name in ("tls-cert-file", "tls-key-file", "tls-client-ca-file", "auth-tokens-file", "resume-key-file"):
        assert f"--{name} FILE" in text


@pytest.mark.parametrize("url", ["http://collector:4317", "https://[::1]:4317/"])
def test_a_collector_is_a_url_with_host_and_port(url: str) -> None:
    assert load_settings(["--trace-endpoint", url], {}).trace_endpoint == url


@pytest.mark.parametrize(
    "url",
    ["collector:4317", "http://collector", "http://:4317", "grpc://collector:4317", "http://collector:http",
     "http://collector:4317/v1/traces"],
)  # fmt: skip
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="is no collector; allowed is http://HOST:PORT"):
        load_settings([], {"HUMANSEG_TRACE_ENDPOINT": url})


def test_a_password_in_it_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="has a password") as caught:
        load_settings([], {"HUMANSEG_TRACE_ENDPOINT": "http://me:secret@collector:4317"})
    assert "secret" not in str(caught.value)


def test_help_tells_ratios_from_seconds() -> None:
    text = " ".join(build_parser().format_help().split())
    assert "--trace-ratio RATIO" in text
    assert "--drain-s SECONDS" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--socket-file", f"/tmp/{'s' * 103}"], "has 108 bytes, a socket's path has at most 107"),
        # Bytes count, not characters.
        (["--socket-file", f"/tmp/{'é' * 52}"], "has 109 bytes"),
        (["--socket-file", "/tmp/s", "--workers", "2"], "cannot be shared by --workers 2"),
        (
            ["--socket-file", "/tmp/s", "--tls-cert-file", "c", "--tls-key-file", "k", "--tls-client-ca-file", "a"],
            "--socket-file asks nobody for a certificate",
        ),
        (["--no-tcp"], "--no-tcp leaves nothing to listen on; give --socket-file"),
    ],
)
def test_a_socket_that_cannot_be_had_is_refused_in_one_line(arguments: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        load_settings(arguments, {})
    assert "\n" not in str(caught.value)
    assert load_settings(["--socket-file", f"/tmp/{'s' * 102}"], {}).socket_file is not None
