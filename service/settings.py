"""Every setting of the service in one frozen object: command line > ``HUMANSEG_*`` environment > default.

An unknown or misspelt name, or a value out of range, is refused with all complaints together: a server that starts
with a setting it did not understand is found at night.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from engines.plan_cache import DEFAULT_FOLDER
from engines.registry import DEFAULT_ENGINE, ENGINES
from engines.remote import RemoteServers
from humanseg.frames import largest_frame_bytes, message_limit_bytes
from service.unix_socket import check_path

ENVIRONMENT_PREFIX = "HUMANSEG_"
REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_MODELS = REPOSITORY / "engines" / "models"
_PATHS = (Path, Path | None)


class SettingsError(ValueError):
    """One or more settings cannot be used; the message has a line for each."""


def _setting(
    default: Any,
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    return field(default=default, metadata={"help": help_text, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides. Field names are flag names (``max_sessions`` is ``--max-sessions``)."""

    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 for all")
    port: int = _setting(50051, "gRPC port; 0 takes a free one and says which", low=0, high=65535)
    socket_file: Path | None = _setting(
        None, "Unix socket to listen on as well, for clients on this machine; open to its user and group, not encrypted"
    )
    tcp: bool = _setting(True, "listen on host and port; without it the socket is all there is")
    metrics_port: int = _setting(9464, "Prometheus port (/metrics); 0 takes a free one", low=0, high=65535)
    models: Path = _setting(DEFAULT_MODELS, "folder whose *.onnx files are served")
    default_model: str = _setting("medium", "model of a config that names none")
    engine: str = _setting(
        DEFAULT_ENGINE, "engine that runs the models; never replaced in silence", choices=sorted(ENGINES)
    )
    engine_cache: Path | None = _setting(
        None, "folder that keeps compiled models from start to start, for engines that compile (openvino-*)"
    )
    plans: Path = _setting(DEFAULT_FOLDER, "folder of the TensorRT engines that python -m engines.build has made")
    triton: str | None = _setting(
        None, "Triton servers that run the models for --engine triton, HOST:PORT[,HOST:PORT]; the gRPC port"
    )
    triton_timeout_s: float = _setting(
        1.0, "how long a batch may take there, tries on other servers included", low=0.01, high=60
    )
    triton_shared_memory: bool = _setting(
        False, "pictures to Triton and masks from it through shared memory; Triton must run on this host"
    )
    runners: int = _setting(0, "threads that run the engine; 0: one a CPU", low=0, high=256)
    workers: int = _setting(1, "server processes behind the port; threads and sessions are dealt out", low=1, high=256)
    worker_silence_s: float = _setting(
        20.0, "how long the event loop of one of several workers may stand still before it is killed and started again",
        low=2, high=3600,
    )  # fmt: skip
    max_batch: int = _setting(8, "most frames in one run of the engine", low=1, high=256)
    max_sessions: int = _setting(64, "streams at once; more are refused", low=1, high=100_000)
    admission_load: float = _setting(
        0.9, "share of the engines' time up to which live streams are admitted; 0: no matter", low=0, high=100
    )
    admission_fps: float = _setting(30.0, "frames a second that a new stream is assumed to send", low=0.1, high=1000)
    max_stills: int = _setting(32, "still pictures at once; more are refused", low=1, high=100_000)
    max_frame_px: int = _setting(1920 * 1088, "largest width * height of a frame or mask", low=1, high=2**26)
    max_side_px: int = _setting(4096, "largest side of a frame or mask", low=1, high=32_768)
    config_timeout_s: float = _setting(10.0, "how long a stream may stay silent before its config", low=0.05, high=3600)
    idle_timeout_s: float = _setting(60.0, "how long a stream may stay silent afterwards", low=0.05, high=86_400)
    write_timeout_s: float = _setting(
        10.0, "how long an answer may wait for a client that does not read", low=0.05, high=3600
    )
    frame_deadline_s: float = _setting(
        1.0, "how old a frame of a live stream may be when its mask is ready, where its config leaves it open; 0: any",
        low=0, high=3600,
    )  # fmt: skip
    degrade: bool = _setting(True, "smaller models and fewer frames for live streams under overload")
    degrade_after_s: float = _setting(2.0, "overload of a stream after which it is degraded", low=0.05, high=3600)
    restore_after_s: float = _setting(10.0, "calm of a stream after which it is restored a step", low=0.05, high=3600)
    max_stream_age_s: float = _setting(
        0.0, "how long a stream may live, up to a tenth less by chance; 0: for ever", low=0, high=30 * 86_400
    )
    age_notice_s: float = _setting(
        10.0, "how long before its greatest age a stream is told to move; at most half of that age", low=0, high=3600
    )
    keepalive_s: float = _setting(
        30.0, "after how much silence on a connection the client is pinged", low=0.1, high=86_400
    )
    keepalive_timeout_s: float = _setting(
        10.0, "how long a client may take to answer a ping before its connection is given up", low=0.1, high=3600
    )
    min_ping_interval_s: float = _setting(
        5.0, "least time between two pings of a client; one that pings faster is cut off", low=0.01, high=86_400
    )
    drain_s: float = _setting(20.0, "how long streams are still served after SIGTERM", low=0, high=3600)
    tls_cert_file: Path | None = _setting(None, "the server's certificate chain, PEM; without one nothing is encrypted")
    tls_key_file: Path | None = _setting(None, "its key, PEM, without a password; all three are reloaded")
    tls_client_ca_file: Path | None = _setting(
        None, "authority of the clients' certificates; then each needs one (mTLS)"
    )
    auth_tokens_file: Path | None = _setting(
        None, "who may call: lines of SHA-256 of a token, tenant, greatest number of streams; reloaded"
    )
    max_messages_per_s: float = _setting(
        500.0, "messages of one stream that are read in a second; 0: no limit", low=0, high=1e6
    )
    resume_key_file: Path | None = _setting(
        None, "keys that sign resume tokens, one a line, the first signs; shared by all replicas; reloaded"
    )
    resume_max_age_s: float = _setting(60.0, "how old a resume token may be", low=1, high=86_400)
    trace_endpoint: str | None = _setting(
        None, "OTLP collector that takes traces by gRPC, as http://host:4317 or https://...; needs the extra otel"
    )
    trace_ratio: float = _setting(
        0.1, "share of the streams that are traced, where the client's traceparent does not decide it", low=0, high=1
    )
    trace_frame_ratio: float = _setting(
        0.01, "share of a traced stream's frames that get spans of their own", low=0, high=1
    )
    shared_memory: bool = _setting(
        False, "pictures and masks through shared memory for clients on this host (docs/operations.md)"
    )
    kserve: bool = _setting(
        False,
        "KServe's inference protocol, which is Triton's, on the same port (docs/kserve.md); needs the extra triton",
    )
    kserve_shared_memory: bool = _setting(
        False, "system shared memory for its clients on this host; the protocol has no token (docs/kserve.md)"
    )
    reflection: bool = _setting(True, "gRPC server reflection")
    log_level: str = _setting("info", "how much to log", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting("logfmt", "form of a log line", choices=("logfmt", "json"))

    @property
    def runner_threads(self) -> int:
        """``runners`` with 0 resolved to the CPUs this process may use."""
        return self.runners or len(os.sched_getaffinity(0))

    @property
    def triton_servers(self) -> RemoteServers | None:
        """Who runs the models, where it is not this process."""
        if self.triton is None:
            return None
        return RemoteServers.parse(self.triton, self.triton_timeout_s, shared_memory=self.triton_shared_memory)

    @property
    def max_frame_bytes(self) -> int:
        """Largest picture in bytes: raw RGB of ``max_frame_px``."""
        return largest_frame_bytes(self.max_frame_px)

    @property
    def max_message_bytes(self) -> int:
        """gRPC's limit, derived from the largest frame; also what one stream can make the server hold at a time."""
        return message_limit_bytes(self.max_frame_px)

    def to_plain(self) -> dict[str, object]:
        """All settings as values that JSON knows, for another process."""
        return {key: {"path": str(value)} if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, object]) -> "Settings":
        """Read what `to_plain` wrote."""
        read = {key: Path(value["path"]) if isinstance(value, dict) else value for key, value in values.items()}
        return cls(**read)  # type: ignore[arg-type]  # each value has the type that its field had

    def for_log(self) -> dict[str, object]:
        """All settings, as they hold."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def load_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Merge command line, environment and defaults.

    Raises:
        SettingsError: naming every setting that cannot be used.
        SystemExit: ``--help``.
    """
    complaints: list[str] = []
    values: dict[str, object] = {}
    known = {item.name: item for item in fields(Settings)}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in known or variable != variable.upper():
            complaints.append(f"{variable}: no such setting; known are {_all_variables(known)}")
        else:
            _read_into(values, known[name], text, variable, complaints)
    try:
        flags = vars(build_parser().parse_args(list(arguments)))
    except _UsageError as error:
        complaints.append(str(error))
        flags = {}
    for name, text in flags.items():
        if text is not None:
            _read_into(values, known[name], text, f"--{name.replace('_', '-')}", complaints)
    if complaints:
        raise SettingsError("\n".join(complaints))
    settings = Settings(**values)  # type: ignore[arg-type]  # each value was read by its own field's type
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        raise SettingsError("--tls-cert-file and --tls-key-file belong together; give both or neither")
    if settings.tls_client_ca_file is not None and settings.tls_cert_file is None:
        raise SettingsError("--tls-client-ca-file asks for clients' certificates; give --tls-cert-file as well")
    if ENGINES[settings.engine].is_remote != (settings.triton is not None):
        raise SettingsError("--engine triton and --triton HOST:PORT belong together; give both or neither")
    if settings.triton_shared_memory and settings.triton is None:
        raise SettingsError("--triton-shared-memory is for the servers of --triton; give both, or leave it out")
    try:
        _ = settings.triton_servers
    except ValueError as error:
        raise SettingsError(f"--triton: {error}") from None
    if settings.trace_endpoint is not None:
        _check_endpoint(settings.trace_endpoint)
    if settings.kserve_shared_memory and not settings.kserve:
        raise SettingsError("--kserve-shared-memory is for clients of --kserve; give both, or leave it out")
    _check_socket(settings)
    return settings


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:  # a port that is no number
        is_usable = False
    allowed = "allowed is http://HOST:PORT or https://HOST:PORT"
    if "@" in url:  # neither here nor at the start may a password stand in the log
        raise SettingsError(f"--trace-endpoint has a password; {allowed}, headers go into OTEL_EXPORTER_OTLP_HEADERS")
    if not is_usable:
        raise SettingsError(f"--trace-endpoint: {url!r} is no collector; {allowed}, without a path")


def _check_socket(settings: Settings) -> None:
    if settings.socket_file is None:
        if not settings.tcp:
            raise SettingsError("--no-tcp leaves nothing to listen on; give --socket-file")
        return
    try:
        check_path(settings.socket_file)
    except ValueError as error:
        raise SettingsError(f"--socket-file: {error}") from None
    if settings.workers > 1:
        raise SettingsError(
            f"--socket-file cannot be shared by --workers {settings.workers}; take one worker, or start a server for"
            " each socket"
        )
    if settings.tls_client_ca_file is not None:
        raise SettingsError("--socket-file asks nobody for a certificate, --tls-client-ca-file everybody; choose one")


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; see python -m service --help")


def build_parser() -> argparse.ArgumentParser:
    """The command line, made from the fields of `Settings`."""
    parser = _Parser(
        prog="python -m service",
        description="Serve person segmentation over gRPC.",
        epilog=(
            "examples:\n"
            "  python -m service                                    medium on 127.0.0.1:50051, metrics on :9464\n"
            "  python -m service --port 0 --metrics-port 0          free ports, named in the log line event=ready\n"
            "  HUMANSEG_MAX_SESSIONS=8 python -m service --host 0.0.0.0\n"
            "\nEvery flag is also an environment variable: --max-sessions is HUMANSEG_MAX_SESSIONS; the flag wins."
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for item in fields(Settings):
        flag = f"--{item.name.replace('_', '-')}"
        text = f"{item.metadata['help']} (default {_show(item.default)})"
        if item.type is bool:
            parser.add_argument(flag, help=text, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(flag, help=text, metavar=_metavar(item), default=None)
    return parser


def _read_into(values: dict[str, object], item: "Field[Any]", text: object, origin: str, complaints: list[str]) -> None:
    try:
        values[item.name] = _read(item, text)
    except ValueError as error:
        complaints.append(f"{origin}: {error}")


def _read(item: "Field[Any]", text: object) -> object:
    if isinstance(text, bool):
        return text
    word = str(text).strip()
    choices, low, high = item.metadata["choices"], item.metadata["low"], item.metadata["high"]
    if item.type is bool:
        meanings = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if word.lower() not in meanings:
            raise ValueError(f"{word!r} is not a switch; allowed are true and false")
        return meanings[word.lower()]
    if item.type in (int, float):
        try:
            number = int(word) if item.type is int else float(word)
        except ValueError:
            raise ValueError(f"{word!r} is not {'a whole' if item.type is int else 'a'} number") from None
        if not low <= number <= high:
            raise ValueError(f"{word} is out of range, allowed are {low:g} to {high:g}")
        return number
    if choices is not None and word not in choices:
        raise ValueError(f"{word!r} is not known, allowed are {', '.join(choices)}")
    if not word:
        raise ValueError("must not be empty")
    return Path(word) if item.type in _PATHS else word


def _metavar(item: "Field[Any]") -> str:
    if item.metadata["choices"] is not None:
        return "|".join(item.metadata["choices"])
    if item.type in _PATHS:
        return "FILE" if item.name.endswith("_file") else "DIR"
    if item.name.endswith("_ratio"):
        return "RATIO"
    return {int: "N", float: "SECONDS"}.get(item.type, "TEXT")  # type: ignore[arg-type]


def _show(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Path) and value.is_relative_to(REPOSITORY):
        return str(value.relative_to(REPOSITORY))
    return str(value)


def _all_variables(known: Mapping[str, object]) -> str:
    return ", ".join(ENVIRONMENT_PREFIX + name.upper() for name in known)
