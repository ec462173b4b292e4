"""Addresses of servers as they are typed in."""

import socket

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


@pytest.mark.parametrize("text", ["127.0.0.1:8001", "[::1]:8001", "localhost:8001,127.0.0.7:8001"])
def test_memory_is_shared_with_addresses_of_this_host(text: str) -> None:
    assert RemoteServers.parse(text, 1.0, shared_memory=True).shared_memory


def test_an_address_of_this_host_that_is_no_loopback_is_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = f"{probe.getsockname()[0]}:8001"
    assert RemoteServers.parse(address, 1.0, shared_memory=True).addresses == (address,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "127.0.0.1:8001,192.0.2.1:8001",
            r"192\.0\.2\.1:8001 cannot share memory: 192\.0\.2\.1 is not this host; name it by",
        ),
        ("[2001:db8::1]:8001", r"\[2001:db8::1\]:8001 cannot share memory: 2001:db8::1 is not this host"),
        ("triton.invalid:8001", "triton.invalid has no address .* or leave out --triton-shared-memory"),
    ],
)
def test_memory_cannot_be_shared_with_another_host(text: str, complaint: str) -> None:
    assert not RemoteServers.parse(text, 1.0).shared_memory
    with pytest.raises(ValueError, match=complaint):
        RemoteServers.parse(text, 1.0, shared_memory=True)
