"""Where servers are that run models for us, and how long a call to one may take."""

import ipaddress
import socket
from dataclasses import dataclass

LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class RemoteServers:
    """Servers that run the same models."""

    addresses: tuple[str, ...]
    """``HOST:PORT``, each once."""
    timeout_s: float
    """Of one batch, tries on other addresses included."""
    shared_memory: bool = False
    """Whether pictures and alphas go through shared memory, which only servers on this host have."""

    @classmethod
    def parse(cls, text: str, timeout_s: float, *, shared_memory: bool = False) -> "RemoteServers":
        """Read ``"HOST:PORT,HOST:PORT"``.

        Raises:
            ValueError: naming the address that is none, stands there twice, or is not of this host where memory is to
                be shared.
        """
        addresses = [one.strip() for one in text.split(",")]
        for address in addresses:
            host, _, port = address.rpartition(":")
            bare = host.removeprefix("[").removesuffix("]")
            is_host = bare and not any(sign in host for sign in "/ ") and ((":" in bare) == (host != bare))
            if not (is_host and port.isdecimal() and 0 < int(port) <= LARGEST_PORT):
                raise ValueError(f"address {address!r} is not HOST:PORT, for example 127.0.0.1:8001 or [::1]:8001")
            if addresses.count(address) > 1:
                raise ValueError(f"address {address} stands there twice; give each server once")
            if shared_memory:
                _require_here(address, bare)
        return cls(tuple(addresses), timeout_s, shared_memory)


def _require_here(address: str, host: str) -> None:
    mend = "name it by an address of this host, for example 127.0.0.1:8001, or leave out --triton-shared-memory"
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)}
    except OSError as error:
        raise ValueError(f"{address} cannot share memory: {host} has no address ({error.strerror}); {mend}") from None
    elsewhere = sorted(one for one in found if not _is_here(one))
    if elsewhere:
        raise ValueError(f"{address} cannot share memory: {', '.join(elsewhere)} is not this host; {mend}")


def _is_here(ip_address: str) -> bool:
    """Whether an interface of this host has the address: only then can a socket be bound to it."""
    ip = ipaddress.ip_address(ip_address.partition("%")[0])
    if ip.is_loopback:
        return True
    with socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip_address, 0))
        except OSError:
            return False
    return True
