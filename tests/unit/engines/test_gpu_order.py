"""The order of CUDA calls, and nothing else: what they do can only be seen on a GPU (`python -m engines.gpu_check`)."""

import threading

import numpy as np
import pytest

from engines.cuda import CudaError, DeviceMemoryError
from engines.gpu_pipeline import DeviceLostError, GpuPipeline
from engines.gpu_slot import Launch, ProgramFactory, SlotShape
from engines.runner import EngineFailedError
from humanseg.vision.arrays import Size
from support.cuda_calls import RecordingCuda, RecordingProgram, made, undone
from support.timing import limit_s

CANVAS = Size(16, 8)
SHAPES = [SlotShape(1, CANVAS, 3), SlotShape(4, CANVAS, 3)]


def batch(count: int) -> np.ndarray:
    return np.zeros((count, *CANVAS.shape, 3), np.uint8)


def opened(cuda: RecordingCuda, launch: Launch = Launch.GRAPH) -> GpuPipeline:
    factory: ProgramFactory = lambda shape, source, target: RecordingProgram(cuda)  # noqa: E731
    return GpuPipeline(lambda: cuda, SHAPES, lambda *_: factory, launch=launch)


@pytest.fixture
def cuda() -> RecordingCuda:
    return RecordingCuda()


def test_every_slot_runs_once_then_is_captured_then_launched(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)
    warm = [name for name in cuda.names() if name in {"enqueue", "begin_capture", "end_capture", "launch_graph"}]
    assert warm == ["enqueue", "begin_capture", "enqueue", "end_capture", "launch_graph"] * 4
    launches = [call for call in cuda.calls if call[0] == "launch_graph"]
    assert len({call[1] for call in launches}) == 4, "each slot has a graph of its own"
    pipeline.close()


def test_what_a_program_sees_before_its_capture_is_over(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)
    names = cuda.names()
    for position in (index for index, name in enumerate(names) if name == "begin_capture"):
        assert names[position - 2 : position] == ["enqueue", "synchronize_stream"]
    pipeline.close()


@pytest.mark.parametrize(("launch", "work"), [(Launch.GRAPH, "launch_graph"), (Launch.PLAIN, "enqueue")])
def test_a_batch_goes_in_is_computed_comes_out_and_is_waited_for(
    cuda: RecordingCuda, launch: Launch, work: str
) -> None:
    pipeline = opened(cuda, launch)
    cuda.calls.clear()
    pipeline.run(batch(3))
    names = [name for name in cuda.names() if name != "attach"]
    assert names == [
        "record_event", "copy_to_device", "record_event", "wait_event", "record_event", work, "record_event",
        "wait_event", "copy_to_host", "record_event", "synchronize_event",
    ]  # fmt: skip
    calls = [call for call in cuda.calls if call[0] != "attach"]
    copied_in, computed, done = calls[2], calls[6], calls[9]
    copy_in, compute, copy_out = calls[1][1], calls[5][-1], calls[8][1]
    assert len({copy_in, compute, copy_out}) == 3, "each has a stream of its own"
    assert copied_in[1:] == (calls[3][1], copy_in)
    assert calls[3][2] == compute, "computing waits for the copy in"
    assert computed[2] == compute
    assert calls[7][1:] == (computed[1], copy_out), "the copy out waits for the computing"
    assert done[2] == copy_out
    assert calls[10][1] == done[1], "the answer waits for the copy out"
    pipeline.close()


def test_a_second_batch_is_queued_before_the_first_is_done(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)
    cuda.calls.clear()
    overlapped = []

    def first_takes_long(event: int) -> None:
        overlapped.append(cuda.wait_until_noted("copy_to_host", 2, limit_s(10)))
        cuda.note("synchronize_event", event)

    cuda.synchronize_event = first_takes_long  # type: ignore[method-assign]
    threads = [threading.Thread(target=pipeline.run, args=(batch(1),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlapped == [True, True]
    pipeline.close()


def test_everything_is_given_back_once_and_in_reverse(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)
    owner = [call for call in cuda.calls if call[0] != "attach"]
    made_before = made([("attach",), *owner])
    pipeline.run(batch(2))
    pipeline.close()
    pipeline.close()
    given_back = undone(cuda.calls)
    given_back.remove(("detach",))  # the waiter's
    assert given_back == made_before[::-1]
    with pytest.raises(EngineFailedError, match="is closed"):
        pipeline.run(batch(1))


def test_after_a_launch_that_fails_all_streams_are_waited_for_before_the_next(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)
    launch = cuda.launch_graph

    def refused_once(graph: int, stream: int) -> None:
        launch(graph, stream)
        cuda.launch_graph = launch  # type: ignore[method-assign]
        raise DeviceMemoryError("cudaGraphLaunch", "cudaErrorMemoryAllocation (2)")

    cuda.launch_graph = refused_once  # type: ignore[method-assign]
    cuda.calls.clear()
    with pytest.raises(DeviceMemoryError):
        pipeline.run(batch(1))
    for _ in range(2):  # both slots can still be used
        pipeline.run(batch(1))
    names = [name for name in cuda.names() if name not in {"attach", "record_event", "wait_event"}]
    whole = ["copy_to_device", "launch_graph", "copy_to_host", "synchronize_event"]
    assert names == ["copy_to_device", "launch_graph", *["synchronize_stream"] * 3, *whole, *whole]
    pipeline.close()


def test_after_a_kernel_that_fails_nothing_more_is_begun(cuda: RecordingCuda) -> None:
    pipeline = opened(cuda)

    def lost(event: int) -> None:
        raise CudaError("cudaEventSynchronize", "cudaErrorIllegalAddress (700)")

    cuda.synchronize_event = lost  # type: ignore[method-assign]
    with pytest.raises(DeviceLostError, match=r"GPU 0 is lost: .*cudaErrorIllegalAddress \(700\); restart the service"):
        pipeline.run(batch(1))
    cuda.calls.clear()
    with pytest.raises(DeviceLostError):
        pipeline.run(batch(1))
    assert cuda.calls == []
    pipeline.close()


@pytest.mark.parametrize("in_capture", [False, True])
def test_a_start_that_fails_gives_back_what_it_had(cuda: RecordingCuda, in_capture: bool) -> None:
    class Refused(RecordingProgram):
        """The third slot's program refuses, at its first run or while it is captured."""

        def enqueue(self, stream: int) -> None:
            super().enqueue(stream)
            if cuda.names().count("enqueue") == (6 if in_capture else 5):
                raise EngineFailedError("refused")

    factory: ProgramFactory = lambda shape, source, target: Refused(cuda)  # noqa: E731
    with pytest.raises(EngineFailedError, match="refused"):
        GpuPipeline(lambda: cuda, SHAPES, lambda *_: factory, launch=Launch.GRAPH)
    assert undone(cuda.calls) == made(cuda.calls)[::-1]
    assert cuda.names().count("begin_capture") == cuda.names().count("end_capture") == 2 + in_capture
    assert cuda.names().count("release") == 3
