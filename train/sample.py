"""A picture with its label, and the ways onto a network's canvas."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Plane, Size
from humanseg.vision.letterbox import PAD_RGB, Placement, letterbox, shrink_or_grow
from train.data import VOID, Photo, known_of_boxes, read_mask, read_photo


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and what is known of it, all of one size.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        alpha: (H, W) uint8, share of the pixel that is person; a hard mask that was shrunk has soft edges.
        known: (H, W) uint8, 255 where ``alpha`` holds, 0 where it is void.
    """

    picture: Picture
    alpha: Alpha8
    known: Plane

    @classmethod
    def read(cls, photo: Photo) -> Self:
        """A photo with its mask, at its own size."""
        mask = read_mask(photo)
        if photo.boxes:
            return cls(read_photo(photo), mask, known_of_boxes(photo.boxes, mask))
        known = np.where(mask == VOID, np.uint8(0), np.uint8(255))
        mask &= known
        return cls(read_photo(photo), mask, known)

    @property
    def size(self) -> Size:
        """Width and height."""
        return Size.of(self.picture)

    def resized(self, size: Size) -> Self:
        """At another size; averaged when it shrinks, so that edges become soft by the right share."""
        picture, alpha = (shrink_or_grow(part, size) for part in (self.picture, self.alpha))
        known = (
            np.full(size.shape, 255, np.uint8) if self.known.all() else _fully_known(shrink_or_grow(self.known, size))
        )
        return type(self)(picture, alpha, known)

    def warped(self, matrix: NDArray[np.float64], canvas: Size) -> Self:
        """Through a (2, 3) affine matrix onto a canvas; what lies outside the picture is padding and void."""
        return type(self)(
            cv.warp_affine(self.picture, matrix, canvas, border=PAD_RGB),
            cv.warp_affine(self.alpha, matrix, canvas, border=0),
            _fully_known(cv.warp_affine(self.known, matrix, canvas, border=0)),
        )

    def flipped(self) -> Self:
        """Left to right."""
        return type(self)(*(np.ascontiguousarray(part[:, ::-1]) for part in (self.picture, self.alpha, self.known)))

    def letterboxed(self, canvas: Size) -> Self:
        """As the service would put it on the canvas; the padding is void."""
        picture, placement = letterbox(self.picture, canvas)
        inner = self.resized(placement.inner)
        alpha, known = np.zeros(canvas.shape, np.uint8), np.zeros(canvas.shape, np.uint8)
        placement.crop(alpha)[:] = inner.alpha
        placement.crop(known)[:] = inner.known
        return type(self)(picture, alpha, known)


def fit_scale(picture: Size, canvas: Size) -> float:
    """By how much a picture is scaled to fit a canvas."""
    return Placement.fit(picture, canvas).width / picture.width


def _fully_known(known: Plane) -> Plane:
    """A pixel that void touches is void."""
    return np.where(known == 255, np.uint8(255), np.uint8(0))
