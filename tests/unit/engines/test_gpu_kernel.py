"""Our kernel goes through NVIDIA's real compiler, which needs no GPU."""

import numpy as np
import pytest

from engines.cuda import CudaError
from engines.runner import EngineUnavailableError

pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed (humanseg[gpu])")


def test_it_compiles_for_the_gpus_of_today() -> None:
    from engines.gpu_kernel import compile_kernel

    try:
        codes = [compile_kernel(capability) for capability in ((7, 5), (8, 9), (9, 0))]
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    assert all(code.startswith(b"\x7fELF") and b"red" in code for code in codes)
    assert len(set(codes)) == 3
    with pytest.raises(CudaError, match=r"nvrtcCompileProgram\(--gpu-architecture=sm_30\) .* invalid value"):
        compile_kernel((3, 0))


def test_what_it_must_answer() -> None:
    from engines.gpu_kernel import expected

    batch = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    np.testing.assert_array_equal(expected(batch), (np.arange(12) * 3 / np.float32(255)).reshape(2, 2, 3).astype("f4"))
