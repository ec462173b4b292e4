"""A small kernel of ours, compiled by NVRTC: shows that the whole way through a GPU works, without TensorRT.

It computes what a model would that calls the red channel alpha, so its answers are known to the last bit.
"""

import ctypes
from contextlib import ExitStack
from typing import Any

import numpy as np
from cuda.bindings import driver, nvrtc

from engines.cuda import Cuda, CudaError, DeviceMemoryError
from engines.gpu_slot import ProgramFactory, SlotShape
from engines.runner import EngineUnavailableError
from humanseg.vision.arrays import AlphaBatch, Batch

SOURCE = rb"""
extern "C" __global__ void red(const unsigned char *frames, float *alpha, int pixels, int channels)
{
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel < pixels)
        alpha[pixel] = frames[(size_t)pixel * channels] / 255.0f;
}
"""
THREADS_A_BLOCK = 256


def expected(batch: Batch) -> AlphaBatch:
    """What the kernel must answer: (N, H, W) float32, bit for bit."""
    alpha: AlphaBatch = batch[..., 0].astype(np.float32) / np.float32(255)
    return alpha


def compile_kernel(compute_capability: tuple[int, int]) -> bytes:
    """Compile for one kind of device, into code that its driver loads as it is; needs no GPU.

    Raises:
        EngineUnavailableError: NVRTC is not installed.
        CudaError: NVRTC refused it; the message has its log.
    """
    try:
        program = _checked(nvrtc.nvrtcCreateProgram(SOURCE, b"red.cu", 0, [], []), "nvrtcCreateProgram")
    except RuntimeError as error:  # how cuda-bindings says that a library is not there
        reason = str(error).split("\n")[0]
        raise EngineUnavailableError(f"NVRTC is missing ({reason}); `pip install 'humanseg[gpu]'`") from error
    options = [b"--gpu-architecture=sm_%d%d" % compute_capability]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status):
        log = bytearray(int(_checked(nvrtc.nvrtcGetProgramLogSize(program), "nvrtcGetProgramLogSize")))
        _checked(nvrtc.nvrtcGetProgramLog(program, log), "nvrtcGetProgramLog")
        text = " ".join(log.decode(errors="replace").strip("\0 \n").split())
        raise CudaError(f"nvrtcCompileProgram({options[0].decode()})", f"{status.name} ({int(status)}): {text}")
    code = bytearray(int(_checked(nvrtc.nvrtcGetCUBINSize(program), "nvrtcGetCUBINSize")))
    _checked(nvrtc.nvrtcGetCUBIN(program, code), "nvrtcGetCUBIN")
    _checked(nvrtc.nvrtcDestroyProgram(program), "nvrtcDestroyProgram")
    return bytes(code)


def load_kernel(code: bytes, cuda: Cuda, resources: ExitStack, stream: int) -> ProgramFactory:
    """Bring compiled code onto the device that is attached; see `engines.gpu_pipeline.Loader`."""
    _checked(driver.cuInit(0), "cuInit")
    module = _checked(driver.cuModuleLoadData(code), "cuModuleLoadData")
    resources.callback(lambda: _checked(driver.cuModuleUnload(module), "cuModuleUnload"))
    function = _checked(driver.cuModuleGetFunction(module, b"red"), "cuModuleGetFunction(red)")
    return lambda shape, source, target: KernelProgram(function, shape, source, target)


class KernelProgram:
    """The kernel with the arguments of one pair of buffers."""

    def __init__(self, function: Any, shape: SlotShape, source: int, target: int) -> None:
        self._function = function
        pixels = shape.bucket * shape.canvas.width * shape.canvas.height
        self._blocks = -(-pixels // THREADS_A_BLOCK)
        self._arguments = (
            (source, target, pixels, shape.channels),
            (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
        )

    def enqueue(self, stream: int) -> None:
        """See `engines.gpu_slot.Program`."""
        launched = driver.cuLaunchKernel(
            self._function, self._blocks, 1, 1, THREADS_A_BLOCK, 1, 1, 0, stream, self._arguments, 0
        )
        _checked(launched, "cuLaunchKernel(red)")

    def release(self) -> None:
        """See `engines.gpu_slot.Program`; the module is unloaded with what loaded it."""


def _checked(answer: tuple[Any, ...], call: str) -> Any:
    status, *values = answer
    if int(status):
        exhausted = status == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
        raise (DeviceMemoryError if exhausted else CudaError)(call, f"{status.name} ({int(status)})")
    return values[0] if values else None
