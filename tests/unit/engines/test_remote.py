"""Addresses of servers as they are typed in."""

import pytest

from engines.remote import RemoteServers


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:8001", ("127.0.0.1:8001",)),
        ("a:1, b.example:65535", ("a:1", "b.example:65535")),
        ("[::1]:8001,localhost:8001", ("[::1]:8001", "localhost:8001")),
    ],
)
def test_addresses_are_read(text: str, addresses: tuple[str, ...]) -> None:
    assert RemoteServers.parse(text, 0.5) == RemoteServers(addresses, 0.5)


@pytest.mark.parametrize(
    "text",
    ["", "host", ":8001", "host:", "host:0", "host:65536", "host:x", "a:1,,b:1", "::1:8001", "http://a:1", "[a]:1"],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, for example"):
        RemoteServers.parse(text, 1.0)


def test_a_server_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="address a:1 stands there twice"):
        RemoteServers.parse("a:1,b:1,a:1", 1.0)
