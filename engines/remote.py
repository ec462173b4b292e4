"""Where servers are that run models for us, and how long a call to one may take."""

from dataclasses import dataclass

LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class RemoteServers:
    """Servers that run the same models."""

    addresses: tuple[str, ...]
    """``HOST:PORT``, each once."""
    timeout_s: float
    """Of one batch, tries on other addresses included."""

    @classmethod
    def parse(cls, text: str, timeout_s: float) -> "RemoteServers":
        """Read ``"HOST:PORT,HOST:PORT"``.

        Raises:
            ValueError: naming the address that is none, or stands there twice.
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
        return cls(tuple(addresses), timeout_s)
