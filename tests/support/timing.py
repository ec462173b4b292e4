"""Time limits inside tests, scaled by one variable: TESTS_TIMEOUT_FACTOR=5 on a machine that is busy."""

import os

FACTOR = float(os.environ.get("TESTS_TIMEOUT_FACTOR", "1"))


def limit_s(seconds: float) -> float:
    """A time limit in seconds; generous, since it only ends a test that hangs."""
    return seconds * FACTOR
