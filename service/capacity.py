"""How long pictures occupy a runner, learnt from those that ran: what deadlines and admission reckon with."""

from collections.abc import Mapping

#: Share of the newest batch in the average: a change of load is believed after some ten batches.
_WEIGHT = 0.1


class RunTimes:
    """Moving averages by model, in nanoseconds. Fed by one thread."""

    def __init__(self, first_ns: Mapping[str, int]) -> None:
        """``first_ns``: by model, how long a single picture took when the model was warmed up."""
        self._batch_ns: dict[str, int] = dict(first_ns)
        self._picture_ns: dict[str, int] = dict(first_ns)

    @property
    def batch_ns(self) -> Mapping[str, int]:
        """By model, how long a batch holds its runner, from the first byte to the last mask."""
        return self._batch_ns

    @property
    def picture_ns(self) -> Mapping[str, int]:
        """By model, how long a picture holds a runner: its share of the batch."""
        return self._picture_ns

    def add(self, model: str, batch_ns: int, pictures: int) -> None:
        """Learn from a batch that ran."""
        _blend(self._batch_ns, model, batch_ns)
        _blend(self._picture_ns, model, batch_ns // pictures)


def _blend(averages: dict[str, int], model: str, seen_ns: int) -> None:
    before_ns = averages.get(model, seen_ns)
    averages[model] = round(before_ns + _WEIGHT * (seen_ns - before_ns))
