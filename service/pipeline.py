"""The work on one picture as plain functions, without asyncio: `prepare` up to the engine, `finish` after it.

`estimate` takes the place of engine and `finish` for a frame that is not to be segmented. All run on whatever thread
the caller gives them; times are taken here and nowhere else.
"""

from dataclasses import dataclass, field

import numpy as np

from engines.metadata import ModelMetadata
from humanseg.frames import PACKED, Layout, PixelFormat, RawFrame, view_frame
from humanseg.masks import MaskEncoding, encode_mask
from humanseg.options import BT601_LIMITED, Estimates, People, TemporalFusion, YuvColor
from humanseg.shared_memory import Span
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Picture, Size
from humanseg.vision.decode import DecodeError, ScaledPicture, decode_jpeg_scaled, decode_picture, picture_size
from humanseg.vision.letterbox import Placement, choose_canvas, fill_canvas, letterbox_frame, restore8
from humanseg.vision.main_person import MainPersonState, keep_main
from humanseg.vision.orientation import Rotation, to_sent, upright_size
from humanseg.vision.temporal import LONGEST_GAP_US, PARAMETERS, FusionState, ResetReason, carry, fuse
from service.compositing import CompositePlan
from service.region import SharedPicture
from service.stages import StageClock
from service.stream_config import SizeLimits


@dataclass(frozen=True, slots=True)
class PictureTask:
    """One picture and all that is wanted of it, from a stream or a still."""

    picture: bytes | memoryview | SharedPicture
    pixel_format: PixelFormat
    size: Size | None
    """Declared size as sent; None: read it from the file (stills)."""
    rotation: Rotation
    mirrored: bool
    encoding: MaskEncoding
    mask_size: Size | None
    fusion: TemporalFusion
    estimates: Estimates
    """Whether later frames may want this one's mask for an estimate, also where fusion is OFF."""
    capture_time_us: int
    exif: bool
    """Whether a JPEG's EXIF orientation is applied (stills) or ignored (streams)."""
    composite: CompositePlan | None = None
    """A finished picture is wanted instead of the mask."""
    layout: Layout = PACKED
    """Where the planes of raw pixels lie."""
    color: YuvColor = BT601_LIMITED
    """What I420 and NV12 mean."""
    people: People = People.ALL


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture on the network's canvas, and the way back."""

    network_input: Picture
    placement: Placement
    sent_size: Size
    source: RawFrame | None = None
    """The whole picture as the network saw it, a file decoded to RGB24; only where a finished picture is wanted.

    Not read once more: a client may write to its shared memory at any time, and one picture's mask would uncover the
    room in another picture.
    """


@dataclass(frozen=True, slots=True)
class EncodedMask:
    """A mask as it goes out, or the finished picture made with it."""

    payload: bytes
    """Empty where it lies in a shared region."""
    encoding: MaskEncoding
    size: Size
    reset: ResetReason | None
    picture_format: PixelFormat | None = None
    """None: a mask."""
    shared: Span | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """Two frames with equal fits lie on each other on the canvas, so that fusion may compare them."""

    model: str
    geometry: tuple[Size, Size]
    orientation: tuple[Rotation, bool]

    @classmethod
    def of(cls, model: str, prepared: Prepared, task: PictureTask) -> "Fit":
        """That of a picture which lies on the canvas of a model."""
        placement = prepared.placement
        return cls(model, (placement.canvas, placement.inner), (task.rotation, task.mirrored))


@dataclass(frozen=True, slots=True)
class MainPerson:
    """Whom a session kept last, and the frames that it holds for."""

    state: MainPersonState
    fit: Fit
    capture_time_us: int


@dataclass(slots=True)
class FusionMemory:
    """What a session remembers between frames: the fusion's state, the main person, and the frames they hold for."""

    state: FusionState = field(default_factory=FusionState)
    fit: Fit | None = None
    is_unfused: bool = False
    """The state holds one frame's own mask, kept for estimates: nothing to fuse the next one with."""

    main: MainPerson | None = None
    """None: everybody was wanted last. Not part of a resume token; kept while fusion is OFF."""

    def forget(self) -> None:
        """Start the fusion anew with the next frame, for example after it was OFF."""
        self.state = FusionState()
        self.fit = None
        self.is_unfused = False

    def fuse(self, model: str, prepared: Prepared, task: PictureTask, alpha: Alpha) -> tuple[Alpha, ResetReason | None]:
        """Fuse a canvas-sized alpha with the past; says why where the past was given up instead."""
        fit = Fit.of(model, prepared, task)
        forced = self._why_unfit(fit)
        if forced is not None or self.is_unfused:
            self.forget()
        self.fit = fit
        gray = cv.rgb_to_gray(prepared.network_input)
        fused, reset = fuse(self.state, gray, alpha, task.capture_time_us, PARAMETERS[task.fusion], prepared.placement)
        return fused, forced or reset

    def keep(self, model: str, prepared: Prepared, task: PictureTask, alpha: Alpha) -> None:
        """Remember a canvas-sized alpha as it is, for `estimate`, while fusion is OFF."""
        self.forget()
        self.fit = Fit.of(model, prepared, task)
        self.is_unfused = True
        gray = cv.rgb_to_gray(prepared.network_input)
        # Without a past, fusion takes a mask as it is, at every level.
        fuse(self.state, gray, alpha, task.capture_time_us, PARAMETERS[TemporalFusion.LOW], prepared.placement)

    def estimate(self, model: str, prepared: Prepared, task: PictureTask) -> Alpha | None:
        """The last mask, canvas-sized, as it would lie on this picture; None where nothing fits. Changes nothing."""
        if self.fit != Fit.of(model, prepared, task):
            return None
        gray = cv.rgb_to_gray(prepared.network_input)
        return carry(self.state, gray, task.capture_time_us, prepared.placement)

    def _why_unfit(self, fit: Fit) -> ResetReason | None:
        if self.fit is None or fit == self.fit:
            return None
        if fit.model != self.fit.model:
            return ResetReason.MODEL
        if fit.orientation != self.fit.orientation:
            return ResetReason.ROTATION
        return ResetReason.SIZE


def geometry(metadata: ModelMetadata, size: Size, rotation: Rotation) -> Placement:
    """Where a picture of this size, turned like this, lies on the model's better canvas."""
    upright = upright_size(size, rotation)
    return Placement.fit(upright, choose_canvas(upright, metadata.landscape, metadata.upright))


def prepare(task: PictureTask, metadata: ModelMetadata, limits: SizeLimits, clock: StageClock) -> Prepared:
    """Decode where needed, and put the picture on the network's canvas.

    Raises:
        DecodeError: the file cannot be read, or its size is not the declared one or over the limits.
        FrameError: the number of bytes does not fit the declared size and layout.
        SharedMemoryError: the picture is not where the client says.
    """
    if task.pixel_format.compressed:
        with clock.stage("decode"):
            decoded = _decode(task, _read(task), metadata, limits)
        with clock.stage("preprocess"):
            placement = geometry(metadata, decoded.full_size, task.rotation)
            network_input = fill_canvas(decoded.picture_rgb, placement, task.rotation, task.mirrored)
        size = decoded.full_size
        source = None if task.composite is None else RawFrame(size, PixelFormat.RGB24, (decoded.picture_rgb,))
        return Prepared(network_input, placement, size, source)
    with clock.stage("preprocess"):
        frame = _view(task)
        canvas = geometry(metadata, frame.size, task.rotation).canvas
        network_input, placement = letterbox_frame(frame, canvas, task.rotation, task.mirrored)
    return Prepared(network_input, placement, frame.size, None if task.composite is None else frame)


def _view(task: PictureTask) -> RawFrame:
    """Raw pixels as planes, without a copy.

    Raises:
        FrameError, SharedMemoryError: as `prepare`.
    """
    if task.size is None:
        raise ValueError("raw pixels need a declared size")
    return view_frame(_read(task), task.pixel_format, task.size, layout=task.layout, color=task.color)


def _read(task: PictureTask) -> bytes | memoryview:
    """The picture's bytes; of a shared one a copy, good until the session's next picture is read."""
    return task.picture.read() if isinstance(task.picture, SharedPicture) else task.picture


def _decode(
    task: PictureTask, picture: bytes | memoryview, metadata: ModelMetadata, limits: SizeLimits
) -> ScaledPicture:
    """Decode a file, after its header passed the limits; a stream's JPEG at the fraction that the network needs."""
    if task.size is not None:
        size = picture_size(picture, exif=task.exif)
        if size != task.size:
            raise DecodeError(f"the {task.pixel_format.name} is {size}, declared was {task.size}; declare its own size")
        if task.pixel_format is PixelFormat.JPEG and not task.exif and task.composite is None:
            # Measured, to 320x192: 1080p 3.8 instead of 5.3 ms, 360p 0.8 instead of 1.1 ms.
            wanted = upright_size(geometry(metadata, size, task.rotation).inner, task.rotation)
            return decode_jpeg_scaled(picture, wanted, limits.max_frame_px, limits.max_side_px)
    picture_rgb = decode_picture(picture, limits.max_frame_px, limits.max_side_px, exif=task.exif)
    return ScaledPicture(picture_rgb, Size.of(picture_rgb))


def _over_time(
    task: PictureTask, model: str, prepared: Prepared, alpha: Alpha, memory: FusionMemory
) -> tuple[Alpha, ResetReason | None]:
    """Whatever needs the frames before: a canvas-sized alpha fused, and then only of the people who are wanted."""
    reset = None
    if task.fusion is not TemporalFusion.OFF:
        alpha, reset = memory.fuse(model, prepared, task, alpha)
    elif task.estimates is not Estimates.OFF:
        memory.keep(model, prepared, task, alpha)
    else:
        memory.forget()
    if task.people is People.MAIN:
        alpha, memory.main = _main_alone(task, model, prepared, alpha, memory, reset)
    else:
        memory.main = None
    return alpha, reset


def _main_alone(
    task: PictureTask, model: str, prepared: Prepared, alpha: Alpha, memory: FusionMemory, reset: ResetReason | None
) -> tuple[Alpha, MainPerson]:
    """A canvas-sized alpha without anybody but the main person, and whom to keep in the next frame.

    ``memory`` stays as it is; its main person counts where the fusion's past would.
    """
    fit, before = Fit.of(model, prepared, task), memory.main
    state = MainPersonState()
    if before is not None and reset is None and before.fit == fit:
        gap_us = task.capture_time_us - before.capture_time_us
        state = before.state if 0 < gap_us <= LONGEST_GAP_US else state
    inside, state = keep_main(prepared.placement.crop(alpha), state)
    kept = np.zeros_like(alpha)
    prepared.placement.crop(kept)[:] = inside
    return kept, MainPerson(state, fit, task.capture_time_us)


def finish(
    task: PictureTask,
    metadata: ModelMetadata,
    prepared: Prepared,
    alpha: Alpha,
    memory: FusionMemory,
    clock: StageClock,
) -> EncodedMask:
    """Fuse over time, bring the mask back onto the picture as it was sent, and encode it.

    Raises:
        SharedMemoryError: the mask or finished picture cannot be written where the client wants it.
    """
    reset = None
    if (task.fusion, task.estimates, task.people) == (TemporalFusion.OFF, Estimates.OFF, People.ALL):
        memory.forget()
        memory.main = None
    else:
        with clock.stage("fusion"):
            alpha, reset = _over_time(task, metadata.name, prepared, alpha, memory)
    if task.composite is not None:
        return _compose(task, task.composite, prepared, alpha, reset, clock)
    return _encode(task, prepared, alpha, reset, clock)


def estimate(
    task: PictureTask, metadata: ModelMetadata, prepared: Prepared, memory: FusionMemory, clock: StageClock
) -> EncodedMask | None:
    """What `finish` gives, without the engine: the last mask carried along the flow. ``memory`` stays as it is.

    None where there is nothing to carry: no mask of the same model and geometry before it, too long a gap, another
    scene. None, too, where a finished picture is wanted: what a person has left, a carried mask may still show.
    """
    if task.composite is not None:
        return None
    with clock.stage("fusion"):
        alpha = memory.estimate(metadata.name, prepared, task)
        if alpha is not None and task.people is People.MAIN:
            # What is carried along is everybody's.
            alpha, _ = _main_alone(task, metadata.name, prepared, alpha, memory, None)
    return None if alpha is None else _encode(task, prepared, alpha, None, clock)


def _encode(
    task: PictureTask, prepared: Prepared, alpha: Alpha, reset: ResetReason | None, clock: StageClock
) -> EncodedMask:
    """Bring a canvas-sized alpha back onto the picture as it was sent."""
    with clock.stage("postprocess"):
        sent_size = task.mask_size or prepared.sent_size
        mask = restore8(alpha, prepared.placement, upright_size(sent_size, task.rotation))
        mask = to_sent(mask, task.rotation, task.mirrored)
    with clock.stage("encode"):
        if isinstance(task.picture, SharedPicture):
            # ALPHA8 lies in the array as it goes out: no copy between it and the region.
            is_plain = task.encoding is MaskEncoding.ALPHA8
            shared = task.picture.write_mask(mask.reshape(-1).data if is_plain else encode_mask(mask, task.encoding))
            return EncodedMask(b"", task.encoding, sent_size, reset, shared=shared)
        payload = encode_mask(mask, task.encoding)
    return EncodedMask(payload, task.encoding, sent_size, reset)


def _compose(
    task: PictureTask,
    plan: CompositePlan,
    prepared: Prepared,
    alpha: Alpha,
    reset: ResetReason | None,
    clock: StageClock,
) -> EncodedMask:
    """The finished picture, at the size and lying as the picture was sent."""
    if prepared.source is None:
        raise ValueError("a finished picture needs the whole picture, which was not kept")
    with clock.stage("postprocess"):
        size = prepared.sent_size
        alpha = plan.spread(alpha, prepared.placement, size)
        mask = restore8(alpha, prepared.placement, upright_size(size, task.rotation))
        mask = to_sent(mask, task.rotation, task.mirrored)
        picture = plan.picture(prepared.source, mask, task.rotation, task.mirrored)
    with clock.stage("encode"):
        payload, shared = plan.encode(picture), None
        if isinstance(task.picture, SharedPicture):
            payload, shared = b"", task.picture.write_picture(payload)
    return EncodedMask(payload, task.encoding, size, reset, plan.picture_format, shared)
