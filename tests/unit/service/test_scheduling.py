"""Which pictures make the next batch."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.scheduling import Lane, choose_batch


@dataclass
class Item:
    lane: Lane
    abandoned: bool = False


LANES = [Lane("medium", "wide"), Lane("medium", "tall"), Lane("large", "wide")]
ITEMS = st.lists(st.builds(Item, st.sampled_from(LANES), st.booleans()), max_size=12)
PREFERRED = st.fixed_dictionaries({"medium": st.integers(1, 4), "large": st.integers(1, 4)})


@given(ITEMS, PREFERRED)
def test_the_oldest_that_still_waits_goes_first_with_others_of_its_lane(
    items: list[Item], preferred: dict[str, int]
) -> None:
    chosen = choose_batch(items, preferred)
    alive = [position for position, item in enumerate(items) if not item.abandoned]
    if not alive:
        assert chosen == []
        return
    lane = items[alive[0]].lane
    same_lane = [position for position in alive if items[position].lane == lane]
    assert chosen == same_lane[: preferred[lane.model]]


@given(ITEMS, PREFERRED)
def test_everybody_gets_a_turn(items: list[Item], preferred: dict[str, int]) -> None:
    waiting, served = list(items), []
    while chosen := choose_batch(waiting, preferred):
        served += [id(waiting[position]) for position in chosen]
        waiting = [item for position, item in enumerate(waiting) if position not in set(chosen)]
    assert sorted(served) == sorted(id(item) for item in items if not item.abandoned)
