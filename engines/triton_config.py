"""A Triton model's configuration (``config.pbtxt``), made from what an ONNX file says of itself."""

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from engines.onnxruntime_model import InspectedModel
from engines.triton_names import HASH_PARAMETER, triton_name
from engines.triton_serving import Backend, Device, ServingPlan
from humanseg.vision.arrays import Size


def config_text(model: InspectedModel, canvas: Size, plan: ServingPlan) -> str:
    """The text of ``config.pbtxt`` of one input size."""
    config = pb.ModelConfig(
        name=triton_name(model.metadata, canvas), backend=str(plan.backend), max_batch_size=plan.max_batch
    )
    config.version_policy.all.SetInParent()  # made from a hash, so "the latest" is any
    dims = [*canvas.shape, model.metadata.channels]
    config.input.add(name=model.input_name, data_type=pb.TYPE_UINT8, dims=dims)
    config.output.add(name=model.output_name, data_type=pb.TYPE_FP32, dims=canvas.shape)
    batching = config.dynamic_batching
    batching.preferred_batch_size.extend(plan.preferred_batches)
    batching.max_queue_delay_microseconds = plan.queue_delay_us
    batching.preserve_ordering = False
    batching.SetInParent()
    kind = pb.ModelInstanceGroup.KIND_GPU if plan.device is Device.GPU else pb.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(kind=kind, count=plan.instances)
    config.parameters[HASH_PARAMETER].string_value = model.sha256
    if plan.device is Device.CPU:
        for key in _thread_keys(plan.backend):
            config.parameters[key].string_value = str(plan.threads)
    # Ready only after a run of the smallest and the largest batch: no session's first frame pays for that.
    for size in sorted({1, plan.max_batch}):
        warmup = config.model_warmup.add(name=f"black_{size}", batch_size=size, count=1)
        frames = warmup.inputs[model.input_name]
        frames.data_type = pb.TYPE_UINT8
        frames.dims.extend(dims)
        frames.zero_data = True
    return text_format.MessageToString(config)


def _thread_keys(backend: Backend) -> tuple[str, ...]:
    return {
        Backend.PYTHON: ("threads",),
        Backend.ONNXRUNTIME: ("intra_op_thread_count", "inter_op_thread_count"),
        Backend.TENSORRT: (),
    }[backend]
