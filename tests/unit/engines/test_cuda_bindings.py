"""NVIDIA's real package, without a driver: every call of ours exists, takes what we give, and is checked."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.cuda import CudaError, CudaPackage, DeviceMemoryError, open_cuda
from engines.runner import EngineUnavailableError

DRIVER = Path("/dev/nvidiactl")
INSTALLED = importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="cuda-bindings is not installed (humanseg[gpu])")
without_driver = pytest.mark.skipif(DRIVER.exists(), reason="there is a driver: `python -m engines.gpu_check` looks")

CALLS: dict[str, Callable[..., object]] = {
    "cudaSetDevice(0)": lambda cuda: cuda.attach(),
    "cudaMemGetInfo": lambda cuda: cuda.memory(),
    "cudaMalloc(1024)": lambda cuda: cuda.allocate(1024),
    "cudaFree": lambda cuda: cuda.free(4096),
    "cudaHostAlloc(1024)": lambda cuda: cuda.allocate_pinned(1024),
    "cudaFreeHost": lambda cuda: cuda.free_pinned(4096),
    "cudaMemcpyAsync(16, cudaMemcpyHostToDevice)": lambda cuda: cuda.copy_to_device(4096, 8192, 16, 1),
    "cudaMemcpyAsync(16, cudaMemcpyDeviceToHost)": lambda cuda: cuda.copy_to_host(4096, 8192, 16, 1),
    "cudaStreamCreateWithFlags": lambda cuda: cuda.create_stream(),
    "cudaStreamDestroy": lambda cuda: cuda.destroy_stream(1),
    "cudaStreamSynchronize": lambda cuda: cuda.synchronize_stream(1),
    "cudaEventCreateWithFlags": lambda cuda: cuda.create_event(),
    "cudaEventDestroy": lambda cuda: cuda.destroy_event(1),
    "cudaEventRecord": lambda cuda: cuda.record_event(1, 2),
    "cudaStreamWaitEvent": lambda cuda: cuda.wait_event(1, 2),
    "cudaEventSynchronize": lambda cuda: cuda.synchronize_event(1),
    "cudaEventElapsedTime": lambda cuda: cuda.elapsed_ms(1, 2),
    "cudaStreamBeginCapture": lambda cuda: cuda.begin_capture(1),
    "cudaStreamEndCapture": lambda cuda: cuda.end_capture(1),
    "cudaGraphLaunch": lambda cuda: cuda.launch_graph(1, 2),
    "cudaGraphExecDestroy": lambda cuda: cuda.destroy_graph(1),
}


@needs_package
@without_driver
@pytest.mark.parametrize("call", CALLS)
def test_without_a_driver_every_call_says_so(call: str) -> None:
    with pytest.raises(CudaError, match=r"cudaErrorInsufficientDriver \(35: ") as raised:
        CALLS[call](open_cuda(0))
    assert raised.value.call == call
    assert not isinstance(raised.value, DeviceMemoryError)


@needs_package
def test_the_calls_that_only_follow_a_success_exist() -> None:
    from cuda.bindings import runtime

    for name in ("cudaGraphInstantiate", "cudaGraphUpload", "cudaGraphDestroy", "cudaGetLastError"):
        assert callable(getattr(runtime, name))


@needs_package
def test_used_up_memory_is_an_error_of_its_own() -> None:
    from cuda.bindings import runtime

    from engines.cuda_bindings import check

    with pytest.raises(
        DeviceMemoryError, match=r"cudaMalloc\(7\) answered cudaErrorMemoryAllocation \(2: out of memory"
    ):
        check((runtime.cudaError_t.cudaErrorMemoryAllocation, None), "cudaMalloc(7)")
    assert check((runtime.cudaError_t.cudaSuccess, 5), "cudaMalloc(7)") == 5
    assert check((runtime.cudaError_t.cudaSuccess,), "cudaFree") is None


@pytest.mark.skipif(INSTALLED, reason="cuda-bindings is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(EngineUnavailableError, match=r"cuda-bindings cannot be imported .*install `humanseg\[gpu\]`"):
        open_cuda(0)


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is not None, reason="pycuda is installed")
def test_pycuda_is_named_as_well() -> None:
    with pytest.raises(EngineUnavailableError, match=r"pycuda cannot be imported .*install `humanseg\[pycuda\]`"):
        open_cuda(0, CudaPackage.PYCUDA)
