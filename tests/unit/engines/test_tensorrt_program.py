"""A plan's way onto a device, as far as it goes without one: NVIDIA's real runtime refuses it, where it is there."""

import importlib.util
from contextlib import ExitStack

import pytest

from engines.gpu_slot import SlotShape
from engines.plan import Flavor
from engines.runner import EngineFailedError
from engines.tensorrt_program import ThreadErrors, load_programs, open_runtime
from humanseg.vision.arrays import Size
from support.cuda_calls import RecordingCuda

SHAPES = (SlotShape(1, Size(16, 8), 3),)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed (humanseg[rtx])"
)
@pytest.mark.parametrize("plan", [b"no plan at all", b""])
def test_bytes_that_are_no_plan_are_refused_with_tensorrts_own_reason(plan: bytes) -> None:
    api, cuda = open_runtime(Flavor.TENSORRT_RTX), RecordingCuda()
    with ExitStack() as resources, pytest.raises(EngineFailedError) as caught:
        load_programs(api, plan, SHAPES, cuda, resources, 0)
    assert str(caught.value).startswith(f"tensorrt-rtx {api.version} refused deserialize_cuda_engine: ")
    assert "gave no reason" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_runtime(Flavor.TENSORRT_RTX) is api, "one logger a process"


def test_complaints_are_told_once_and_on_one_line() -> None:
    errors = ThreadErrors()
    errors.take("INFO", "nothing")
    errors.take("ERROR", "first\n  line")
    errors.take("INTERNAL_ERROR", "second")
    assert errors.take_all() == "first line | second"
    assert errors.take_all() == "TensorRT gave no reason"
