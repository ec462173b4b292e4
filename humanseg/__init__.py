"""Cut people out of live video: the client of a segmentation service, and the pure picture functions it shares.

    import asyncio, humanseg
    from humanseg.video import read_rgb

    async def main():
        async with humanseg.SegmentationClient("127.0.0.1:50051") as client:
            async for frame, alpha8 in client.masks(read_rgb("talk.mp4"), model="medium"):
                ...

    asyncio.run(main())

Names are imported when they are first used, so that `humanseg.vision` and `humanseg.masks` do not load grpc.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from humanseg.access import TlsFiles
    from humanseg.answers import (
        Accepted,
        Answer,
        Dropped,
        DropReason,
        Estimated,
        Limits,
        MaskAnswer,
        ModelInfo,
        ModelList,
        Notice,
        NoticeReason,
        PictureAnswer,
        ResumeOutcome,
        ResumePoint,
        Segmented,
        StageTimes,
        StateReset,
    )
    from humanseg.balancing import Balancing
    from humanseg.blocking import BlockingClient, BlockingStream
    from humanseg.client import ClientOptions, SegmentationClient
    from humanseg.composite_config import (
        BlurBackground,
        ColorBackground,
        Composite,
        ImageBackground,
        TransparentBackground,
    )
    from humanseg.errors import (
        AccessDeniedError,
        CallCancelledError,
        ClientTooSlowError,
        DeadlineError,
        FieldViolation,
        FrameDroppedError,
        InvalidRequestError,
        LimitExceededError,
        OverloadedError,
        PictureError,
        ProtocolError,
        SegmentationError,
        ServerDrainingError,
        ServerFaultError,
        ServerUnavailableError,
        SharedMemoryRefusedError,
        StreamAgedError,
        UnknownModelError,
    )
    from humanseg.frames import FrameError, PixelFormat, RawFrame, TimedFrame
    from humanseg.masks import MaskEncoding, MaskError
    from humanseg.options import (
        ColorMatrix,
        ColorRange,
        Degradation,
        Estimates,
        FramePolicy,
        People,
        TemporalFusion,
        YuvColor,
    )
    from humanseg.session_config import SessionConfig
    from humanseg.shared_memory import SharedMemory
    from humanseg.stills import Composed
    from humanseg.stream import SegmentationStream
    from humanseg.vision.arrays import Size
    from humanseg.vision.orientation import Rotation

__version__ = "0.1.0"

#: Where each public name comes from.
_MODULES = {
    "humanseg.access": ("TlsFiles",),
    "humanseg.answers": (
        "Accepted", "Answer", "DropReason", "Dropped", "Estimated", "Limits", "MaskAnswer", "ModelInfo", "ModelList",
        "Notice", "NoticeReason", "PictureAnswer", "ResumeOutcome", "ResumePoint", "Segmented", "StageTimes",
        "StateReset",
    ),
    "humanseg.balancing": ("Balancing",),
    "humanseg.blocking": ("BlockingClient", "BlockingStream"),
    "humanseg.client": ("ClientOptions", "SegmentationClient"),
    "humanseg.composite_config": (
        "BlurBackground", "ColorBackground", "Composite", "ImageBackground", "TransparentBackground",
    ),
    "humanseg.errors": (
        "AccessDeniedError", "CallCancelledError", "ClientTooSlowError", "DeadlineError", "FieldViolation",
        "FrameDroppedError", "InvalidRequestError", "LimitExceededError", "OverloadedError", "PictureError",
        "ProtocolError", "SegmentationError", "ServerDrainingError", "ServerFaultError", "ServerUnavailableError",
        "SharedMemoryRefusedError", "StreamAgedError", "UnknownModelError",
    ),
    "humanseg.frames": ("FrameError", "PixelFormat", "RawFrame", "TimedFrame"),
    "humanseg.masks": ("MaskEncoding", "MaskError"),
    "humanseg.options": (
        "ColorMatrix", "ColorRange", "Degradation", "Estimates", "FramePolicy", "People", "TemporalFusion", "YuvColor",
    ),
    "humanseg.session_config": ("SessionConfig",),
    "humanseg.shared_memory": ("SharedMemory",),
    "humanseg.stills": ("Composed",),
    "humanseg.stream": ("SegmentationStream",),
    "humanseg.vision.arrays": ("Size",),
    "humanseg.vision.orientation": ("Rotation",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Accepted",
    "AccessDeniedError",
    "Answer",
    "Balancing",
    "BlockingClient",
    "BlockingStream",
    "BlurBackground",
    "CallCancelledError",
    "ClientOptions",
    "ClientTooSlowError",
    "ColorBackground",
    "ColorMatrix",
    "ColorRange",
    "Composed",
    "Composite",
    "DeadlineError",
    "Degradation",
    "DropReason",
    "Dropped",
    "Estimated",
    "Estimates",
    "FieldViolation",
    "FrameDroppedError",
    "FrameError",
    "FramePolicy",
    "ImageBackground",
    "InvalidRequestError",
    "LimitExceededError",
    "Limits",
    "MaskAnswer",
    "MaskEncoding",
    "MaskError",
    "ModelInfo",
    "ModelList",
    "Notice",
    "NoticeReason",
    "OverloadedError",
    "People",
    "PictureAnswer",
    "PictureError",
    "PixelFormat",
    "ProtocolError",
    "RawFrame",
    "ResumeOutcome",
    "ResumePoint",
    "Rotation",
    "SegmentationClient",
    "SegmentationError",
    "SegmentationStream",
    "Segmented",
    "ServerDrainingError",
    "ServerFaultError",
    "ServerUnavailableError",
    "SessionConfig",
    "SharedMemory",
    "SharedMemoryRefusedError",
    "Size",
    "StageTimes",
    "StateReset",
    "StreamAgedError",
    "TemporalFusion",
    "TimedFrame",
    "TlsFiles",
    "TransparentBackground",
    "UnknownModelError",
    "YuvColor",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
