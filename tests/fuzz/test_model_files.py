"""Model files with a changed byte: served, or refused with the documented exception; the process never dies of one."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.registry import open_runner, warm_up
from engines.runner import EngineError
from support.models import write_red_model

#: A twentieth of what messages get: no client sends these, and each case opens an engine.
EXAMPLES = max(100, int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "100")) // 20)


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-f32"])
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10_000), flipped=st.integers(1, 255))
def test_one_changed_byte(tmp_path: Path, engine: str, where: int, flipped: int) -> None:
    path = tmp_path / "m.onnx"
    content = bytearray(write_red_model(path).read_bytes())
    content[where % len(content)] ^= flipped
    path.write_bytes(content)
    try:
        runner = open_runner(engine, path, max_batch=1, concurrency=1)
        warm_up(runner)
        runner.close()
    except EngineError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
