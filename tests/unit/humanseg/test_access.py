"""Where a command may be told to find a server."""

import pytest

from humanseg.access import check_target


@pytest.mark.parametrize("target", ["127.0.0.1:50051", "[::1]:1", "dns:///people:65535", "unix:/run/s", "unix:s"])
def test_a_port_or_a_sockets_path_is_a_target(target: str) -> None:
    check_target(target)


@pytest.mark.parametrize("target", ["", "nowhere", "nowhere:", ":5", "host:0", "host:65536", "host:http", "unix:"])
def test_what_is_neither_is_refused_with_what_is_allowed(target: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT, for example 127.0.0.1:50051, nor unix:PATH"):
        check_target(target)
