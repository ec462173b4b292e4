"""Names for the arrays that travel through the project, with their shapes, dtypes and ranges."""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: (H, W, 3) uint8, color order given by the name of the variable (``frame_rgb``, ``frame_bgr``).
Picture: TypeAlias = NDArray[np.uint8]
#: (H, W) uint8: one plane of a YUV frame, or a gray picture.
Plane: TypeAlias = NDArray[np.uint8]
#: (H, W) float32 in [0, 1]: soft coverage of the person.
Alpha: TypeAlias = NDArray[np.float32]
#: (H, W) uint8 in 0..255: alpha as it goes over the wire.
Alpha8: TypeAlias = NDArray[np.uint8]
#: (H, W) float32 of anything else (gains, validity, distances).
Field: TypeAlias = NDArray[np.float32]
#: (H, W) bool.
BoolMask: TypeAlias = NDArray[np.bool_]
#: (N, H, W, C) uint8, RGB (and the previous mask as the fourth channel where a model asks for it).
Batch: TypeAlias = NDArray[np.uint8]
#: (N, H, W) float32 in [0, 1].
AlphaBatch: TypeAlias = NDArray[np.float32]


class Size(NamedTuple):
    """Width and height in pixels, always in this order; array shapes are height first."""

    width: int
    height: int

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def transposed(self) -> "Size":
        """The size after a quarter turn."""
        return Size(self.height, self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as numpy wants it."""
        return (self.height, self.width)

    def within(self, max_px: int, max_side_px: int) -> "Size":
        """The largest size of the same shape within both limits; itself if it is, at least one pixel a side."""
        if self.area_px <= max_px and max(self) <= max_side_px:
            return self
        scale = min(max_side_px / max(self), math.sqrt(max_px / self.area_px))
        # Rounded down, so that the limits hold.
        return Size(max(1, int(self.width * scale)), max(1, int(self.height * scale)))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``"320x192"``.

        Raises:
            ValueError: the text is not two positive whole numbers joined by ``x``.
        """
        width, sep, height = text.partition("x")
        if not (sep and width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
            raise ValueError(f"size {text!r} is not WIDTHxHEIGHT in whole pixels, for example 640x360")
        return cls(int(width), int(height))

    @classmethod
    def of(cls, array: NDArray[np.generic]) -> "Size":
        """The size of an (H, W, ...) array."""
        return cls(array.shape[1], array.shape[0])
