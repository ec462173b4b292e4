"""The config of a stream: as asked for, what of it is not acceptable, and as it holds, defaults filled in."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from humanseg.frames import PACKED, Layout, PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import (
    BT601_LIMITED,
    ColorMatrix,
    ColorRange,
    Degradation,
    Estimates,
    FramePolicy,
    People,
    TemporalFusion,
    YuvColor,
)
from humanseg.shared_memory import RegionLayout
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from service.call_errors import CallError, Reason, invalid
from service.compositing import BackgroundImage, CompositePlan, RequestedComposite, check_composite
from service.picture_form import check_color, check_layout

#: Least time between two resume points: each costs some milliseconds and up to 40 KB.
LEAST_RESUME_INTERVAL_S, LARGEST_RESUME_INTERVAL_S = 1.0, 86_400.0
LABEL_LIMIT = 64
SHORTEST_DEADLINE_NS, LONGEST_DEADLINE_NS = 1_000_000, 3600 * 10**9


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """What a picture or mask may not exceed."""

    max_frame_bytes: int
    max_frame_px: int
    max_side_px: int

    def complaint(self, size: Size) -> str | None:
        """What is wrong with a size, if anything."""
        if size.width < 1 or size.height < 1:
            return f"size {size} is empty; both sides must be at least 1"
        if max(size) > self.max_side_px:
            return f"size {size} exceeds max_side_px {self.max_side_px}; send smaller frames"
        if size.area_px > self.max_frame_px:
            return f"size {size} ({size.area_px} px) exceeds max_frame_px {self.max_frame_px}; send smaller frames"
        return None


class Catalog(Protocol):
    """What the state machine must know of the models."""

    @property
    def default(self) -> str:
        """The model of a config that names none."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """All models, the default first."""
        ...

    def geometry(self, model: str, size: Size, rotation: Rotation) -> Hashable:
        """Equal for two kinds of frames whose network inputs lie on each other pixel by pixel."""
        ...


@dataclass(frozen=True, slots=True)
class RequestedConfig:
    """A config as the client sent it; None is "the server decides"."""

    model: str = ""
    width: int = 0
    height: int = 0
    pixel_format: PixelFormat | None = None
    rotation: Rotation | None = None
    mirrored: bool = False
    fusion: TemporalFusion | None = None
    encoding: MaskEncoding | None = None
    mask_width: int = 0
    mask_height: int = 0
    policy: FramePolicy | None = None
    label: str = ""
    estimates: Estimates | None = None
    frame_deadline_ns: int | None = None
    """0 is "none"."""
    degradation: Degradation | None = None
    resume_token: bytes = b""
    resume_interval_s: float = 0.0
    composite: RequestedComposite | None = None
    shared_memory: RegionLayout | None = None
    """A region that is open already."""
    layout: Layout = PACKED
    """Of frames of the config's size that say nothing about it."""
    color_matrix: ColorMatrix | None = None
    color_range: ColorRange | None = None
    people: People | None = None


@dataclass(frozen=True, slots=True)
class ConfigDefaults:
    """What the operator decides where a config leaves it to the server."""

    frame_deadline_ns: int | None = None
    """For policy NEWEST; None: frames never become too late."""
    degrades: bool = True
    """Whether streams may be degraded at all."""


#: Of an operator who decided nothing.
NO_DEFAULTS = ConfigDefaults()


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A config that holds: checked, every default filled in."""

    model: str
    size: Size
    pixel_format: PixelFormat
    rotation: Rotation
    mirrored: bool
    fusion: TemporalFusion
    encoding: MaskEncoding
    mask_size: Size | None
    policy: FramePolicy
    label: str
    estimates: Estimates
    frame_deadline_ns: int | None
    """How old a frame may be when its mask is ready, from its arrival; None: whatever it takes."""
    degradation: Degradation
    resume_interval_s: float
    """0: only when the stream is about to end."""
    shared_memory: RegionLayout | None
    composite: CompositePlan | None = None
    """Finished pictures instead of masks."""
    layout: Layout = PACKED
    """Of frames of the config's size that say nothing about it."""
    color: YuvColor = BT601_LIMITED
    """What I420 and NV12 mean."""
    people: People = People.ALL


def check_config(
    requested: RequestedConfig,
    catalog: Catalog,
    limits: SizeLimits,
    defaults: ConfigDefaults,
    images: Mapping[str, BackgroundImage],
) -> StreamConfig:
    """Fill in the defaults and hold a config against the limits; all complaints come together.

    Raises:
        CallError: CONFIG_INVALID with every offending field, or MODEL_UNKNOWN.
    """
    fields: list[tuple[str, str]] = []
    size = Size(requested.width, requested.height)
    pixel_format = requested.pixel_format or PixelFormat.I420
    if complaint := limits.complaint(size):
        fields.append(("config.width, config.height", complaint))
    else:
        check_layout("config.", requested.layout, pixel_format, size, limits.max_frame_bytes, fields)
    color = check_color("config.", pixel_format, requested.color_matrix, requested.color_range, fields)
    if pixel_format is PixelFormat.PNG:
        fields.append(("config.pixel_format", "PNG is for Segment only; stream JPEG or raw pixels"))
    if not (len(requested.label) <= LABEL_LIMIT and requested.label.isascii() and requested.label.isprintable()):
        text = f"{requested.label[:LABEL_LIMIT]!r} ({len(requested.label)} characters) is not a label"
        fields.append(("config.session_label", f"{text}; allowed are up to {LABEL_LIMIT} printable ASCII characters"))
    mask_size = check_mask_size("config.", requested.mask_width, requested.mask_height, limits, fields)
    policy = requested.policy or FramePolicy.NEWEST
    deadline_ns = requested.frame_deadline_ns
    if deadline_ns is None:
        deadline_ns = defaults.frame_deadline_ns if policy is FramePolicy.NEWEST else None
    elif deadline_ns != 0 and not SHORTEST_DEADLINE_NS <= deadline_ns <= LONGEST_DEADLINE_NS:
        allowed = f"{SHORTEST_DEADLINE_NS / 1e9:g} to {LONGEST_DEADLINE_NS / 1e9:g} s, or 0 for none"
        fields.append(("config.frame_deadline", f"{deadline_ns / 1e9:g} s is out of range, allowed are {allowed}"))
    interval_s = requested.resume_interval_s
    if interval_s != 0 and not LEAST_RESUME_INTERVAL_S <= interval_s <= LARGEST_RESUME_INTERVAL_S:
        allowed = f"allowed are 0 and {LEAST_RESUME_INTERVAL_S:g} to {LARGEST_RESUME_INTERVAL_S:g} s"
        text = f"{interval_s:g} s, {allowed}"
        fields.append(("config.resume_interval", text))
    composite = None
    if requested.composite is not None:
        fields += _contradictions(requested)
        composite = check_composite(requested.composite, pixel_format, images, fields)
    if fields:
        raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", fields)
    return StreamConfig(
        model=check_model(requested.model, catalog),
        size=size,
        pixel_format=pixel_format,
        rotation=Rotation.DEG_0 if requested.rotation is None else requested.rotation,
        mirrored=requested.mirrored,
        fusion=requested.fusion or TemporalFusion.HIGH,
        encoding=requested.encoding or MaskEncoding.ALPHA8,
        mask_size=mask_size,
        policy=policy,
        label=requested.label,
        estimates=requested.estimates or Estimates.OFF,
        frame_deadline_ns=deadline_ns or None,
        degradation=_degradation(requested, policy, defaults),
        resume_interval_s=interval_s,
        composite=composite,
        shared_memory=requested.shared_memory,
        layout=requested.layout,
        color=color,
        people=requested.people or People.ALL,
    )


def _contradictions(requested: RequestedConfig) -> list[tuple[str, str]]:
    """What cannot be had together with finished pictures, where no masks are sent and none is estimated."""
    found = []
    if requested.mask_width or requested.mask_height:
        text = f"{requested.mask_width}x{requested.mask_height} with a composite, which is of the frame's own size"
        found.append(("config.mask_width, config.mask_height", f"{text}; leave both 0"))
    if requested.encoding not in (None, MaskEncoding.ALPHA8):
        text = f"{requested.encoding.name} with a composite, which sends no masks; leave it out"
        found.append(("config.mask_encoding", text))
    if requested.estimates is Estimates.SUPERSEDED:
        text = "SUPERSEDED with a composite: an estimate may show the room where the person was; leave it out"
        found.append(("config.estimates", text))
    if requested.degradation is Degradation.MODEL_AND_RATE:
        text = "MODEL_AND_RATE with a composite, for which nothing is estimated; ask for MODEL or OFF"
        found.append(("config.degradation", text))
    return found


def _degradation(requested: RequestedConfig, policy: FramePolicy, defaults: ConfigDefaults) -> Degradation:
    if policy is not FramePolicy.NEWEST or not defaults.degrades:
        return Degradation.OFF
    if requested.degradation is not None:
        return requested.degradation
    # By itself the server sends no estimates: clients of earlier releases know them only where they asked.
    return Degradation.MODEL_AND_RATE if requested.estimates is Estimates.SUPERSEDED else Degradation.MODEL


def check_mask_size(
    prefix: str, width: int, height: int, limits: SizeLimits, fields: list[tuple[str, str]]
) -> Size | None:
    """The wanted size of masks, None for the frame's own; a complaint is added to ``fields``."""
    if width == 0 and height == 0:
        return None
    if complaint := limits.complaint(Size(width, height)):
        fields.append((f"{prefix}mask_width, {prefix}mask_height", f"{complaint}, or leave both 0 for the frame's own"))
    return Size(width, height)


def check_model(name: str, catalog: Catalog) -> str:
    """The model meant by a name, the default if it is empty.

    Raises:
        CallError: MODEL_UNKNOWN.
    """
    if not name:
        return catalog.default
    if name not in catalog.names:
        served = ", ".join(catalog.names)
        message = f"model {name[:80]!r} is not served here, served are {served}"
        raise CallError(Reason.MODEL_UNKNOWN, message, metadata={"served_models": served})
    return name
