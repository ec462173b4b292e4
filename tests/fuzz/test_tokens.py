"""Damaged resume tokens, and contents that are signed all the same: opened, or refused by name; nothing else."""

import os
import random
from pathlib import Path

from service.resume import ResumeOutcome, _sign
from unit.service.test_resume import KEY, outcome, sealer, token_of

#: A short run in `make test`; `make fuzz` has 100,000.
CASES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "10000"))


def test_any_bytes_are_opened_or_refused(tmp_path: Path) -> None:
    """Damaged tokens, and contents that are signed all the same, as if a key had leaked."""
    ours, key = sealer(tmp_path), KEY.encode()
    token = token_of(ours)
    content = token[:-32]
    pick = random.Random(7)
    seen = dict.fromkeys(ResumeOutcome, 0)
    for case in range(CASES):
        data = bytearray(token if case % 4 == 0 else content)
        for _ in range(pick.randint(1, 3)):
            at = pick.randrange(min(len(data), pick.choice([8, 300, len(data)])))
            data[at : at + pick.randint(0, 3)] = pick.randbytes(pick.randint(0, 3))
        if pick.random() < 0.1:
            del data[pick.randrange(len(data)) :]
        whole = bytes(data) if case % 4 == 0 else bytes(data) + _sign(key, bytes(data), "acme")
        seen[outcome(ours, whole)] += 1
    assert all(seen[reason] for reason in (ResumeOutcome.MALFORMED, ResumeOutcome.NOT_AUTHENTIC)), seen
    assert seen[ResumeOutcome.RESUMED], "a changed pixel is no fault"
