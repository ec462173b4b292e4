"""``python -m service.healthcheck``: exit status 0 if the server in this container serves, else 1 and why.

For container engines; Kubernetes asks over its own ``grpc:`` probe. The ports are the service's own settings. A server
with TLS is asked for ``/ready`` on its metrics port, since its certificate is not for the loopback address.
"""

import os
import sys
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.settings import SettingsError, load_settings
from service.unix_socket import address_of

TIMEOUT_S = 3.0
#: Where a server that listens on every address is found from inside its container.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def check(address: str) -> str:
    """Ask for the health of the whole server: ``SERVING``, ``NOT_SERVING``, or the status code of a failed call."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def check_ready(address: str) -> str:
    """Ask for ``/ready``: ``SERVING``, ``NOT_SERVING``, or ``UNAVAILABLE`` where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/ready", timeout=TIMEOUT_S):
            return "SERVING"
    except urllib.error.HTTPError as error:
        error.close()
        return "NOT_SERVING"
    except OSError:
        return "UNAVAILABLE"


def main() -> int:
    """Exit status for the container engine."""
    try:
        settings = load_settings([], os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    host = _LOOPBACK.get(settings.host, settings.host)
    if settings.socket_file is not None and not settings.tcp:
        address = address_of(settings.socket_file)
        health = check(address)
    elif settings.tls_cert_file is None:
        address = f"{host}:{settings.port}"
        health = check(address)
    else:
        address = f"{host}:{settings.metrics_port}"
        health = check_ready(address)
    if health != "SERVING":
        print(f"the server on {address} is {health}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
