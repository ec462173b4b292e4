"""The proto's enum numbers and our enum members, matched by name once at import; client and service both read them."""

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from humanseg.frames import Layout, PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import ColorMatrix, ColorRange, Degradation, Estimates, FramePolicy, People, TemporalFusion
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.orientation import Rotation

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

Number = TypeVar("Number", bound=int)
Choice = TypeVar("Choice", bound=enum.Enum)


class UnknownChoiceError(ValueError):
    """A number that this release's enum does not have; the message says which are allowed."""


class ProtoEnum(Generic[Number, Choice]):
    """One enum in both forms. Number 0 is "unspecified" and stands for None."""

    def __init__(self, proto: "_EnumTypeWrapper[Number]", prefix: str, names: Mapping[str, Choice]) -> None:
        """``names``: what follows ``prefix`` in the proto -> member."""
        self._unspecified = proto.Value(f"{prefix}UNSPECIFIED")
        self._number = {choice: proto.Value(prefix + name) for name, choice in names.items()}
        self._choice: dict[int, Choice] = {int(number): choice for choice, number in self._number.items()}
        self._allowed = ", ".join(f"{prefix}{name} = {self._number[choice]}" for name, choice in names.items())

    def number(self, choice: Choice | None) -> Number:
        """The proto's number; None becomes unspecified."""
        return self._unspecified if choice is None else self._number[choice]

    def choice(self, number: int) -> Choice | None:
        """Our member, None for unspecified.

        Raises:
            UnknownChoiceError: the number belongs to no member.
        """
        if number == 0:
            return None
        found = self._choice.get(number)
        if found is None:
            raise UnknownChoiceError(f"value {number} is not known, allowed are {self._allowed}")
        return found


PIXEL_FORMAT = ProtoEnum(pb.PixelFormat, "PIXEL_FORMAT_", {choice.name: choice for choice in PixelFormat})
ROTATION = ProtoEnum(pb.Rotation, "ROTATION_", {str(choice.value): choice for choice in Rotation})
TEMPORAL_FUSION = ProtoEnum(pb.TemporalFusion, "TEMPORAL_FUSION_", {choice.name: choice for choice in TemporalFusion})
MASK_ENCODING = ProtoEnum(pb.MaskEncoding, "MASK_ENCODING_", {choice.name: choice for choice in MaskEncoding})
FRAME_POLICY = ProtoEnum(pb.FramePolicy, "FRAME_POLICY_", {choice.name: choice for choice in FramePolicy})
DEGRADATION = ProtoEnum(pb.Degradation, "DEGRADATION_", {choice.name: choice for choice in Degradation})
PEOPLE = ProtoEnum(pb.People, "PEOPLE_", {choice.name: choice for choice in People})
ESTIMATES = ProtoEnum(pb.Estimates, "ESTIMATES_", {choice.name: choice for choice in Estimates})
COLOR_MATRIX = ProtoEnum(pb.ColorMatrix, "COLOR_MATRIX_", {choice.name: choice for choice in ColorMatrix})
COLOR_RANGE = ProtoEnum(pb.ColorRange, "COLOR_RANGE_", {choice.name: choice for choice in ColorRange})


def plane_messages(layout: Layout) -> list[pb.PlaneLayout]:
    """A layout as it goes over the wire."""
    return [pb.PlaneLayout(offset_bytes=plane.offset_bytes, stride_bytes=plane.stride_bytes) for plane in layout]
