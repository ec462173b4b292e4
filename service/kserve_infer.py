"""Requests of KServe's protocol that want a mask: pictures by themselves and turns of sequences, read and answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, TemporalFusion
from humanseg.vision.orientation import Rotation
from service.call_errors import CallError
from service.kserve_memory import Place, RegionBook
from service.kserve_models import KserveModels
from service.kserve_sequences import Outcome, SequenceTable
from service.kserve_tensors import InferRequest, file_in, infer_response, read_request
from service.pipeline import EncodedMask, PictureTask
from service.session_door import Caller
from service.stills import StillDesk
from service.stream_config import SizeLimits


class InferDesk:
    """What all requests of one server are read and answered with."""

    def __init__(self, models: KserveModels, limits: SizeLimits, regions: RegionBook, stills: StillDesk) -> None:
        self._models = models
        self._limits = limits
        self._regions = regions
        self._stills = stills

    async def infer(self, message: Any, caller: Caller, sequences: SequenceTable) -> Any:
        """ModelInferResponse to a request of ModelInfer; ``sequences`` are those of all such calls.

        Raises:
            CallError: there is no mask.
        """
        if "sequence_id" not in message.parameters:
            return await self.still(message, caller)
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def send(response: Any) -> None:
            if not answered.done():
                answered.set_result(response)

        async def refuse(error: CallError) -> None:
            if not answered.done():
                answered.set_exception(error)

        if not await self.take_turn(message, caller, sequences, send, refuse):
            return await self.still(message, caller)
        return await answered

    async def take_turn(
        self,
        message: Any,
        caller: Caller,
        sequences: SequenceTable,
        send: Callable[[Any], Awaitable[None]],
        refuse: Callable[[CallError], Awaitable[None]],
    ) -> bool:
        """Take a request of a sequence; False where it turns out to be a picture by itself. One of ``send`` (with a
        ModelInferResponse) and ``refuse`` is called once for a request that was taken.

        Raises:
            CallError: it is not taken.
        """
        began_ns = time.monotonic_ns()
        request = self._read(message, caller)
        if request.turn is None:
            return False
        statistics = request.model.statistics

        async def reply(outcome: Outcome) -> None:
            try:
                if isinstance(outcome, CallError):
                    raise outcome
                response = await _response(request, outcome.mask)
            except CallError as error:
                statistics.refused(time.monotonic_ns() - began_ns)
                await refuse(error)
                return
            statistics.answered(outcome.clock)
            response.parameters["triton_final_response"].bool_param = True
            await send(response)

        try:
            picture = await _picture(request)
            await sequences.take(request.turn, request.model, picture, request.size, caller, reply)
        except CallError:
            statistics.refused(time.monotonic_ns() - began_ns)
            raise
        return True

    async def still(self, message: Any, caller: Caller) -> Any:
        """ModelInferResponse with the mask of a picture by itself.

        Raises:
            CallError: there is none.
        """
        with self._stills.call() as still:
            self._stills.require_room()
            request = self._read(message, caller)
            try:
                picture = await _picture(request)
                mask = await still.segment(_still_task(request, picture), request.model.model)
                response = await _response(request, mask)
            except CallError:
                request.model.statistics.refused(time.monotonic_ns() - still.clock.arrived_ns)
                raise
            request.model.statistics.answered(still.clock)
            return response

    def _read(self, message: Any, caller: Caller) -> InferRequest:
        return read_request(message, self._models, self._limits, self._regions, caller.tenant.name, caller.peer)


async def _picture(request: InferRequest) -> bytes | memoryview:
    """The picture's bytes, out of shared memory on another thread."""
    content: bytes | memoryview
    if isinstance(request.picture, Place):
        content = await asyncio.to_thread(request.picture.read)
    else:
        content = request.picture
    return file_in(content) if request.model.takes_jpeg else content


async def _response(request: InferRequest, mask: EncodedMask) -> Any:
    """The answer; raises CallError where the mask cannot be put where it is wanted."""
    if request.output is not None:
        request.output.require_room(mask.payload)
        await asyncio.to_thread(request.output.write, mask.payload)
    return infer_response(request, mask.payload, mask.size)


def _still_task(request: InferRequest, picture: bytes | memoryview) -> PictureTask:
    return PictureTask(
        picture=picture,
        pixel_format=PixelFormat.JPEG if request.model.takes_jpeg else PixelFormat.RGB24,
        size=request.size,
        rotation=Rotation.DEG_0,
        mirrored=False,
        encoding=MaskEncoding.ALPHA8,
        mask_size=None,
        fusion=TemporalFusion.OFF,
        estimates=Estimates.OFF,
        capture_time_us=0,
        exif=True,
    )
