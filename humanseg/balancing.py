"""Which replica a connection goes to, where a target leads to several."""

import enum
import json
import random

#: gRPC's service config: calls go in turn to the addresses that say of themselves that they serve.
_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})


class Balancing(enum.Enum):
    """Which of a target's addresses a call or a stream goes to.

    FIRST: the first that takes a connection. Right for one server, and where something else balances.
    ROUND_ROBIN: those whose health says SERVING, so that no new stream reaches a replica that drains or has lost its
        engine. Right for targets that lead to every replica: ``dns:///`` and a headless Service, or
        ``ipv4:10.0.0.1:50051,10.0.0.2:50051``. Each stream holds a connection to every address.
    """

    FIRST = enum.auto()
    ROUND_ROBIN = enum.auto()


def channel_arguments(balancing: Balancing) -> list[tuple[str, str]]:
    """What a channel must be told so that it balances like that."""
    return [("grpc.service_config", _ROUND_ROBIN)] if balancing is Balancing.ROUND_ROBIN else []


def channel_target(target: str, balancing: Balancing) -> str:
    """The target to give a channel: the addresses that it lists, if it does, in a new order under ROUND_ROBIN.

    A stream has a channel of its own, whose first call goes to whoever is connected first: mostly the first address.
    A name's addresses come in the order of its DNS server, which Kubernetes' shuffles.
    """
    scheme, _, listed = target.partition(":")
    if balancing is not Balancing.ROUND_ROBIN or scheme not in ("ipv4", "ipv6"):
        return target
    addresses = listed.split(",")
    return f"{scheme}:{','.join(random.sample(addresses, len(addresses)))}"
