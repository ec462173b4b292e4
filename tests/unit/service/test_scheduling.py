"""Which pictures make the next batch, and which are too late for one."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scheduling import STARVING_NS, Lane, Urgency, bucket, choose_batch

MS = 1_000_000


@dataclass
class Item:
    lane: Lane
    abandoned: bool = False
    urgency: Urgency = field(default_factory=lambda: Urgency(0))


LANES = [Lane("medium", "wide"), Lane("medium", "tall"), Lane("large", "wide")]
TIMES = st.integers(0, 2000).map(lambda ms: ms * MS)
ITEMS = st.lists(
    st.builds(
        Item,
        st.sampled_from(LANES),
        st.booleans(),
        st.builds(Urgency, TIMES, st.one_of(st.none(), TIMES), st.one_of(st.none(), TIMES)),
    ),
    max_size=12,
)
PREFERRED = st.fixed_dictionaries({"medium": st.integers(1, 6), "large": st.integers(1, 6)})
RUN_NS = {"medium": 20 * MS, "large": 60 * MS}


def more_urgent(a: Urgency, b: Urgency, now_ns: int) -> bool:
    """Whether a has to go before b: the order as it is written in docs/design.md, by cases."""
    a_waits_ns, b_waits_ns = now_ns - a.unserved_since_ns, now_ns - b.unserved_since_ns
    if max(a_waits_ns, b_waits_ns) >= STARVING_NS:
        return a_waits_ns > b_waits_ns
    if a.deadline_ns is None or b.deadline_ns is None:
        return b.deadline_ns is None and (a.deadline_ns is not None or a.arrived_ns < b.arrived_ns)
    return a.deadline_ns < b.deadline_ns


@given(ITEMS, PREFERRED, TIMES)
def test_the_most_urgent_goes_first_with_others_of_its_lane(
    items: list[Item], preferred: dict[str, int], now_ns: int
) -> None:
    choice = choose_batch(items, preferred, RUN_NS, now_ns)
    in_time = [
        position
        for position, item in enumerate(items)
        if not item.abandoned and not item.urgency.is_late(now_ns, RUN_NS[item.lane.model])
    ]
    alive = {position for position, item in enumerate(items) if not item.abandoned}
    assert set(choice.late) == alive - set(in_time)
    assert bool(choice.batch) == bool(in_time)
    if not choice.batch:
        return
    lane = items[choice.batch[0]].lane
    same_lane = [position for position in in_time if items[position].lane == lane]
    assert set(choice.batch) <= set(same_lane)
    assert len(choice.batch) == bucket(len(same_lane), preferred[lane.model])
    for position in in_time:
        assert not more_urgent(items[position].urgency, items[choice.batch[0]].urgency, now_ns)
    for left_out in set(same_lane) - set(choice.batch):
        for chosen in choice.batch:
            assert not more_urgent(items[left_out].urgency, items[chosen].urgency, now_ns)


@given(ITEMS, PREFERRED)
def test_everybody_gets_a_turn(items: list[Item], preferred: dict[str, int]) -> None:
    waiting, ended = list(items), []
    while True:
        choice = choose_batch(waiting, preferred, RUN_NS, 500 * MS)
        gone = {*choice.batch, *choice.late}
        ended += [id(waiting[position]) for position in gone]
        waiting = [item for position, item in enumerate(waiting) if position not in gone]
        if not choice.batch:
            break
    assert sorted(ended) == sorted(id(item) for item in items if not item.abandoned)


@pytest.mark.parametrize(
    ("count", "preferred", "runs"),
    [(1, 1, 1), (9, 1, 1), (1, 8, 1), (3, 8, 2), (7, 8, 4), (8, 8, 8), (20, 8, 8), (5, 6, 4), (6, 6, 6)],
)
def test_batches_come_in_few_sizes(count: int, preferred: int, runs: int) -> None:
    assert bucket(count, preferred) == runs


def test_late_is_what_would_end_behind_its_deadline() -> None:
    urgency = Urgency(arrived_ns=1000 * MS, deadline_ns=1100 * MS)
    assert not urgency.is_late(1080 * MS, 20 * MS)
    assert urgency.is_late(1080 * MS + 1, 20 * MS)
    assert not urgency.is_late(1050 * MS, 3600_000 * MS), "half of the time is always enough"
    assert urgency.is_late(1050 * MS + 1, 3600_000 * MS)
    assert not Urgency(arrived_ns=0).is_late(3600_000 * MS, 20 * MS), "without a deadline nothing is late"


@dataclass
class Client:
    """Sends its next frame as soon as the last one has an answer, whichever: the heaviest load that there is."""

    allowed_ms: int | None
    urgency: Urgency = field(default_factory=lambda: Urgency(0))
    lane: Lane = LANES[0]
    abandoned: bool = False
    hungry_since_ns: int = 0
    longest_hunger_ns: int = 0

    def send(self, now_ns: int) -> None:
        deadline_ns = None if self.allowed_ms is None else now_ns + self.allowed_ms * MS
        self.urgency = Urgency(now_ns, deadline_ns, self.hungry_since_ns)

    def served(self, now_ns: int) -> None:
        self.longest_hunger_ns = max(self.longest_hunger_ns, now_ns - self.hungry_since_ns)
        self.hungry_since_ns = now_ns


@settings(deadline=None, max_examples=40)
@given(
    allowed_ms=st.lists(st.one_of(st.none(), st.sampled_from([80, 100, 300, 1000])), min_size=1, max_size=30),
    run_ms=st.integers(5, 40),
    preferred=st.integers(1, 4),
)
def test_nobody_starves_whatever_deadlines_the_others_give(
    allowed_ms: list[int | None], run_ms: int, preferred: int
) -> None:
    """At many times the load that fits: beyond the starving limit, a session waits for each other one once at most.

    As long as its deadline leaves room for the run that is under way and its own.
    """
    clients = [Client(allowed) for allowed in allowed_ms]
    now_ns, end_ns = 0, 3000 * MS
    for client in clients:
        client.send(now_ns)
    while now_ns < end_ns:
        choice = choose_batch(clients, {"medium": preferred}, {"medium": run_ms * MS}, now_ns)
        for position in choice.late:
            clients[position].send(now_ns)
        if not choice.batch:
            continue
        now_ns += run_ms * MS
        for position in choice.batch:
            clients[position].served(now_ns)
            clients[position].send(now_ns)
    # Twice a frame may come too late for the turn that was due: it was just replaced, or one run ended meanwhile.
    bound_ns = STARVING_NS + (len(clients) + 2) * run_ms * MS
    for client in clients:
        client.served(now_ns)
        assert client.longest_hunger_ns <= bound_ns, client
