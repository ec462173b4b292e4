"""How a stream is to be treated: what the client asks for, and what the server made of it."""

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from humanseg.composite_config import Composite
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import ColorMatrix, ColorRange, Degradation, Estimates, FramePolicy, People, TemporalFusion
from humanseg.proto_enums import (
    COLOR_MATRIX,
    COLOR_RANGE,
    DEGRADATION,
    ESTIMATES,
    FRAME_POLICY,
    MASK_ENCODING,
    PEOPLE,
    PIXEL_FORMAT,
    ROTATION,
    TEMPORAL_FUSION,
)
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """A stream's settings; use `dataclasses.replace` to change some of them in mid-stream.

    Attributes:
        size: width and height of the frames in pixels; a frame of its own size may differ.
        model: name of the model; empty for the server's default.
        pixel_format: format of all frames; PNG is for still pictures only.
        rotation: by how much frames must be turned clockwise to stand upright. Masks come back as frames were sent.
        mirrored: whether frames show the scene mirrored, like a selfie preview.
        temporal_fusion: how strongly masks are smoothed over time.
        mask_encoding: how masks travel; the client hands out decoded ones in any case. PNG costs time and saves bytes;
            PACKED and RLE save more and are hard: 0 and 255 only.
        mask_size: size of the masks in pixels; None for each frame's own.
        frame_policy: NEWEST for live video (late frames are dropped), EVERY for offline work (the sender waits).
        label: the caller's own name for this session in the server's log; at most 64 printable ASCII characters.
        frame_deadline_s: how old a frame may be when its mask is ready, from its arrival at the server; one that cannot
            make it is dropped (LATE) before the engine. 0 for none; None leaves it to the server, in an answer: none.
        degradation: what the server may do under overload: take a smaller model, or also every second frame only; None
            leaves it to the server.
        resume_interval_s: how often, at least 1, the server tells where another stream could go on
            (`SegmentationStream.resume_point`); 0 for only when it is about to end this one.
        composite: finished pictures (`PictureAnswer`) instead of masks; with no mask_size, mask_encoding or estimates.
        estimates: SUPERSEDED asks for an estimate (`Estimated`) of the mask of a frame that NEWEST would drop.
        people: MAIN leaves everybody but the main person to the background, in masks, estimates and pictures.
        color_matrix: what I420 and NV12 mean, for them only; None leaves it to the server, which takes BT601.
        color_range: what I420 and NV12 mean, for them only; None leaves it to the server, which takes LIMITED.
    """

    size: Size
    model: str = ""
    pixel_format: PixelFormat = PixelFormat.RGB24
    rotation: Rotation = Rotation.DEG_0
    mirrored: bool = False
    temporal_fusion: TemporalFusion = TemporalFusion.HIGH
    mask_encoding: MaskEncoding = MaskEncoding.ALPHA8
    mask_size: Size | None = None
    frame_policy: FramePolicy = FramePolicy.NEWEST
    label: str = ""
    estimates: Estimates = Estimates.OFF
    frame_deadline_s: float | None = None
    degradation: Degradation | None = None
    resume_interval_s: float = 0.0
    composite: Composite | None = None
    people: People = People.ALL
    color_matrix: ColorMatrix | None = None
    color_range: ColorRange | None = None

    def __post_init__(self) -> None:
        # A plain (width, height) is welcome; what is out of range is for the server to name.
        object.__setattr__(self, "size", Size(*self.size))
        if self.mask_size is not None:
            object.__setattr__(self, "mask_size", Size(*self.mask_size))
        if min(*self.size, *(self.mask_size or self.size)) < 0:
            raise ValueError(f"size {self.size}, mask_size {self.mask_size}: sides must not be negative")

        if self.frame_deadline_s is not None and not 0 <= self.frame_deadline_s < 1e9:
            raise ValueError(f"frame_deadline_s {self.frame_deadline_s} must be 0 (none) or a number of seconds")

    def to_message(self) -> pb.SessionConfig:
        """As it goes over the wire, left to the server's defaults where it is empty or None."""
        mask_size = self.mask_size or Size(0, 0)
        message = pb.SessionConfig(
            model=self.model,
            width=self.size.width,
            height=self.size.height,
            pixel_format=PIXEL_FORMAT.number(self.pixel_format),
            rotation=ROTATION.number(self.rotation),
            mirrored=self.mirrored,
            temporal_fusion=TEMPORAL_FUSION.number(self.temporal_fusion),
            mask_encoding=MASK_ENCODING.number(self.mask_encoding),
            mask_width=mask_size.width,
            mask_height=mask_size.height,
            frame_policy=FRAME_POLICY.number(self.frame_policy),
            session_label=self.label,
            estimates=ESTIMATES.number(self.estimates),
            degradation=DEGRADATION.number(self.degradation),
            resume_interval=_duration(self.resume_interval_s),
            composite=None if self.composite is None else self.composite.to_message(),
            people=PEOPLE.number(self.people),
            color_matrix=COLOR_MATRIX.number(self.color_matrix),
            color_range=COLOR_RANGE.number(self.color_range),
        )
        if self.frame_deadline_s is not None:
            message.frame_deadline.FromMicroseconds(round(self.frame_deadline_s * 1e6))
        return message

    @classmethod
    def from_message(cls, message: pb.SessionConfig) -> "SessionConfig":
        """Read the server's echo, in which every default is filled in.

        Raises:
            ValueError: a value that this release cannot have asked for.
        """
        return cls(
            size=Size(message.width, message.height),
            model=message.model,
            pixel_format=PIXEL_FORMAT.choice(message.pixel_format) or PixelFormat.I420,
            rotation=ROTATION.choice(message.rotation) or Rotation.DEG_0,
            mirrored=message.mirrored,
            temporal_fusion=TEMPORAL_FUSION.choice(message.temporal_fusion) or TemporalFusion.HIGH,
            mask_encoding=MASK_ENCODING.choice(message.mask_encoding) or MaskEncoding.ALPHA8,
            mask_size=Size(message.mask_width, message.mask_height) if message.mask_width else None,
            frame_policy=FRAME_POLICY.choice(message.frame_policy) or FramePolicy.NEWEST,
            label=message.session_label,
            estimates=ESTIMATES.choice(message.estimates) or Estimates.OFF,
            degradation=DEGRADATION.choice(message.degradation),
            frame_deadline_s=message.frame_deadline.ToMicroseconds() / 1e6
            if message.HasField("frame_deadline")
            else None,
            resume_interval_s=message.resume_interval.ToTimedelta().total_seconds(),
            composite=Composite.from_message(message.composite) if message.HasField("composite") else None,
            people=PEOPLE.choice(message.people) or People.ALL,
            color_matrix=COLOR_MATRIX.choice(message.color_matrix),
            color_range=COLOR_RANGE.choice(message.color_range),
        )


def _duration(seconds: float) -> Duration | None:
    if seconds == 0:
        return None
    message = Duration()
    message.FromMilliseconds(round(seconds * 1000))
    return message
