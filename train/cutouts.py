"""People cut out of photos without a rim of their old background, made once a photo and remembered; no torch.

Where a photo's mask ends, its pixels show person and background mixed, and masks err by a pixel or two. So the colors
round the edge are replaced by those of the person just within it, at the photo's own size. They depend on the photo
only, so a sample is the same whether they were remembered or made anew.
"""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Alpha8, BoolMask, Picture
from train.data import Photo
from train.sample import Sample

#: Sides of the boxes over which `foreground_colors` averages. The paper's are larger; on striped rooms at training size
#: these leave a fifth of the rim's color error, 61 and 9 a third.
_FAR_PX, _NEAR_PX = 31, 9
#: What is certainly person begins so many pixels within the mask, and rises over a few.
_ERODE_PX, _SOFTEN_PX = 5, 0.8
#: A mean over less of the person than this says nothing of its color.
_LEAST_COVER = 0.02
#: Colors are replaced from so many pixels within the mask to so many outside: what one pixel of a small canvas blends.
_INSIDE_PX, _OUTSIDE_PX = 4, 10
#: Some 50 KB a photo: the 1,450 photos of ../shared/data that people are cut out of take 70 MB.
DEFAULT_LIMIT_BYTES = 256 * 2**20


def foreground_colors(picture: Picture, alpha: Alpha) -> NDArray[np.float32]:
    """The color of the person alone, also where the background shines through; (H, W, 3) float32 in 0..255.

    For an ``alpha`` that is right, (H, W) float32 in [0, 1]: two passes of blur-fusion (Forte 2021, "Approximate Fast
    Foreground Colour Estimation", algorithm 1). Where alpha is too high it leaves the rim, where too low it exaggerates
    the person's colors.
    """
    cover = alpha[:, :, np.newaxis]
    colors = picture.astype(np.float32)
    foreground, background = colors, colors
    for side_px in (_FAR_PX, _NEAR_PX):
        mean_cover = cv.box_f32(alpha, side_px)[:, :, np.newaxis]
        mean_foreground = cv.box_f32(foreground * cover, side_px) / (mean_cover + 1e-3)
        mean_background = cv.box_f32(background * (1 - cover), side_px) / (1 - mean_cover + 1e-3)
        residue = colors - cover * mean_foreground - (1 - cover) * mean_background
        foreground = np.clip(mean_foreground + cover * residue, 0, 255)
        background = np.clip(mean_background, 0, 255)
    return foreground


class Cutouts:
    """Reads people for composites; safe to use from several threads.

    What is remembered of each photo are the colors round the edge, up to a limit; what was used longest ago goes first.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._colors: OrderedDict[tuple[Path, int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    @property
    def held_bytes(self) -> int:
        """How much is remembered."""
        return self._held_bytes

    def without_rim(self, photo: Photo, sample: Sample) -> Sample:
        """``sample``, which was read from ``photo`` and not changed, with the person's own colors round the edge."""
        band = _edge_band(sample.alpha)
        stat = photo.image.stat()
        # A photo that is replaced during a run is another photo.
        key = photo.image, stat.st_mtime_ns, stat.st_size
        colors = self._recall(key)
        if colors is None:
            colors = colors_from_within(sample.picture, sample.alpha)[band]
            self._remember(key, colors)
        picture = sample.picture.copy()
        picture[band] = colors
        return Sample(picture, sample.alpha, sample.known)

    def _recall(self, key: tuple[Path, int, int]) -> NDArray[np.uint8] | None:
        with self._lock:
            if key in self._colors:
                self._colors.move_to_end(key)
            return self._colors.get(key)

    def _remember(self, key: tuple[Path, int, int], colors: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._colors or colors.nbytes > self._limit_bytes:
                return
            self._colors[key] = colors
            self._held_bytes += colors.nbytes
            while self._held_bytes > self._limit_bytes:
                _, oldest = self._colors.popitem(last=False)
                self._held_bytes -= oldest.nbytes


def colors_from_within(picture: Picture, mask: Alpha8) -> Picture:
    """The photo, with the colors at the edge of a hard mask and round it replaced by the person's just within.

    Tried on drawn edges that blend over 5 and 9 px, with masks that end where alpha is 0.25, 0.5 and 0.75: up to 22 %
    of the rim's color error is left, where `foreground_colors` leaves 23 to 44 % and shifts colors inside.
    """
    sure = cv.gauss(cv.erode(mask, _ERODE_PX), _SOFTEN_PX).astype(np.float32) * np.float32(1 / 255)
    cover = sure[:, :, np.newaxis]
    colors = picture.astype(np.float32)
    covered = colors * cover
    around = colors
    for side_px in (_FAR_PX, _NEAR_PX):
        mean_cover = cv.box_f32(sure, side_px)[:, :, np.newaxis]
        mean_colors = cv.box_f32(covered, side_px) / np.maximum(mean_cover, 1e-6)
        around = np.where(mean_cover > _LEAST_COVER, mean_colors, around)
    replaced: Picture = np.rint(covered + (1 - cover) * around).astype(np.uint8)
    return replaced


def _edge_band(mask: Alpha8) -> BoolMask:
    inner, outer = cv.erode(mask, 2 * _INSIDE_PX + 1), cv.dilate(mask, 2 * _OUTSIDE_PX + 1)
    band: BoolMask = (outer > 127) & (inner <= 127)
    return band
