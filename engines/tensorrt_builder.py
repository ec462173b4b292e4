"""ONNX to a plan: strongly typed, one static profile for every batch size and canvas. TensorRT 10, 11 and RTX.

None of NVIDIA's calls here raises when it is refused: the answer is None, False, -1, or an object that does not hold
what it was given. Every one is checked, and the logger's last errors become the message.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engines.plan import BuiltPlan, Flavor, PlanKey, PlanTensor
from engines.plan_cache import write_whole
from engines.runner import EngineError, EngineUnavailableError
from engines.tensorrt_api import Messages, TensorRtApi

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx


class BuildError(EngineError):
    """TensorRT refused a model or a setting; the message has its reason."""


class BuildCancelled(EngineError):
    """Whoever watched the build said stop."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how a build goes."""

    begun: Callable[[int], None]
    """So many steps more."""
    step: Callable[[], bool]
    """One is done; False stops the build."""


def build_plan(
    api: TensorRtApi, onnx: bytes, key: PlanKey, channels: int, watch: Watch, timing_cache: Path | None
) -> BuiltPlan:
    """Build a plan.

    Args:
        api: the flavor, opened. Full TensorRT builds for the GPU that is there; a driver must have been found.
        onnx: a checked model (`engines.onnx_checks`), converted to the precision wanted.
        key: what it is for.
        channels: of the model's input.
        watch: told of progress.
        timing_cache: file of measured kernel times, read and written; full TensorRT only.

    Raises:
        BuildError: TensorRT refused something.
        BuildCancelled: `Watch.step` said False.
        EngineUnavailableError: this flavor does not build for the key's GPU.
        CacheWriteError: the timing cache cannot be written.
    """
    began = time.monotonic()
    messages = Messages()
    logger = api.logger(messages)
    try:
        builder = api.builder(logger)
    except TypeError as error:  # pybind11's way to say that creation gave nothing
        raise BuildError(f"{api.flavor} {api.version} makes no Builder: {messages.reason}") from error
    network = builder.create_network(1 << int(api.creation_flag.STRONGLY_TYPED))
    if network is None:
        raise BuildError(f"create_network was refused: {messages.reason}")
    parser = api.parser(network, logger)
    _parse(parser, network, onnx, messages)
    tensors = _tensors(network)
    _check_tensors(tensors, channels)
    config = builder.create_builder_config()
    if config is None:
        raise BuildError(f"create_builder_config was refused: {messages.reason}")
    # What stays in float32 was kept there for its precision; TF32 has 10 bits of mantissa and is on by default.
    config.clear_flag(api.builder_flag.TF32)
    _set_target(api, config, key)
    _add_profiles(builder, config, key, tensors[0].name, channels, messages)
    stopped = False

    def step() -> bool:
        nonlocal stopped
        stopped = stopped or not watch.step()
        return not stopped

    config.progress_monitor = api.monitor(watch.begun, step)
    if timing_cache and api.flavor is Flavor.TENSORRT:
        _read_timing(config, timing_cache, messages)
    plan = builder.build_serialized_network(network, config)
    if stopped:
        raise BuildCancelled("the build was stopped; nothing was written")
    if plan is None:
        raise BuildError(f"{api.flavor} {api.version} did not build {key.model}: {messages.reason}")
    content = _bytes(plan)
    if timing_cache and api.flavor is Flavor.TENSORRT:
        _write_timing(config, timing_cache)
    return BuiltPlan(content, tensors, _flags(api, config), time.monotonic() - began)


def _parse(parser: "trt.OnnxParser", network: "trt.INetworkDefinition", onnx: bytes, messages: Messages) -> None:
    accepted = parser.parse(onnx)
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not accepted or errors:
        texts = [
            f"{error.code().name} at node {error.node()} {error.node_operator()} {error.node_name()}: {error.desc()}"
            for error in errors
        ]
        raise BuildError(f"NVIDIA's parser refused the model: {' | '.join(texts) or messages.reason}")
    if not network.num_layers:  # what it makes of empty bytes and of text
        raise BuildError("NVIDIA's parser found no layers in the model")


def _tensors(network: "trt.INetworkDefinition") -> tuple[PlanTensor, ...]:
    ports = [("INPUT", network.get_input(index)) for index in range(network.num_inputs)]
    ports += [("OUTPUT", network.get_output(index)) for index in range(network.num_outputs)]
    return tuple(
        PlanTensor(tensor.name, mode, tensor.dtype.name, _sizes(tensor.shape))
        for mode, tensor in ports
        if tensor is not None
    )


def _check_tensors(tensors: tuple[PlanTensor, ...], channels: int) -> None:
    """Hold what the parser made of the model against our contract: it, not the file, is what gets built."""
    seen = [(tensor.mode, tensor.dtype, len(tensor.shape)) for tensor in tensors]
    if seen != [("INPUT", "UINT8", 4), ("OUTPUT", "FLOAT", 3)] or tensors[0].shape[3] != channels:
        raise BuildError(
            f"the parsed network has {', '.join(map(str, tensors))}, expected one UINT8 input (-1, -1, -1, {channels})"
            " and one FLOAT output (-1, -1, -1)"
        )


def _set_target(api: TensorRtApi, config: "trt.IBuilderConfig", key: PlanKey) -> None:
    if api.compute_capability is None:
        return
    rtx_config = cast("rtx.IBuilderConfig", config)
    name = f"SM{key.compute_capability.replace('.', '')}"
    target = api.compute_capability.__members__.get(name)
    rtx_config.num_compute_capabilities = 1
    if target is None or not rtx_config.set_compute_capability(target, 0):
        known = ", ".join(
            f"{number[2:-1]}.{number[-1]}" for number in api.compute_capability.__members__ if number.startswith("SM")
        )
        raise EngineUnavailableError(
            f"TensorRT-RTX {api.version} builds for no GPU of compute capability {key.compute_capability}, only for"
            f" {known}; take --flavor tensorrt on a machine with that GPU"
        )


def _add_profiles(
    builder: "trt.Builder", config: "trt.IBuilderConfig", key: PlanKey, frames: str, channels: int, messages: Messages
) -> None:
    for index, wanted in enumerate(key.profiles):
        profile = builder.create_optimization_profile()
        shape = wanted.shape(channels)
        dims = cast("trt.Dims", shape)  # converted by the binding, which its types do not say
        profile.set_shape(frames, dims, dims, dims)
        if not profile or config.add_optimization_profile(profile) != index:
            raise BuildError(f"profile {index} of {shape} was refused: {messages.reason}")


def _flags(api: TensorRtApi, config: "trt.IBuilderConfig") -> tuple[str, ...]:
    return tuple(sorted(name for name, flag in api.builder_flag.__members__.items() if config.get_flag(flag)))


def _read_timing(config: "trt.IBuilderConfig", path: Path, messages: Messages) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        raise BuildError(f"timing cache {path} was refused: {messages.reason}; remove it, it is only there for speed")


def _write_timing(config: "trt.IBuilderConfig", path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        write_whole(path, _bytes(cache.serialize()))


def _bytes(memory: "trt.IHostMemory") -> bytes:
    """Its buffer, whole. Not by memoryview: that claims items of four bytes."""
    return bytes(cast("bytes", memory))


def _sizes(dims: "trt.Dims") -> tuple[int, ...]:
    return tuple(int(dims[index]) for index in range(len(dims)))
