from itertools import permutations

import pytest

from humanseg.balancing import Balancing, channel_target

LISTED = ["10.0.0.1:50051", "10.0.0.2:50051", "10.0.0.3:50051"]


def test_every_order_of_the_addresses_listed_occurs() -> None:
    """A missing one of six orders in 500 draws is a matter of one in 10^39."""
    target = f"ipv4:{','.join(LISTED)}"
    seen = {channel_target(target, Balancing.ROUND_ROBIN) for _ in range(500)}
    assert seen == {f"ipv4:{','.join(order)}" for order in permutations(LISTED)}
    assert channel_target(target, Balancing.FIRST) == target


def test_ipv6_addresses_stay_whole() -> None:
    seen = {channel_target("ipv6:[::1]:1,[2001:db8::2]:2", Balancing.ROUND_ROBIN) for _ in range(100)}
    assert seen == {"ipv6:[::1]:1,[2001:db8::2]:2", "ipv6:[2001:db8::2]:2,[::1]:1"}


@pytest.mark.parametrize("target", ["127.0.0.1:50051", "dns:///humanseg-headless.humanseg:50051", "unix:/run/a,b.sock"])
def test_a_target_that_lists_no_addresses_stays_as_it_is(target: str) -> None:
    assert channel_target(target, Balancing.ROUND_ROBIN) == target
