"""What the relay shows behind people: as the service is asked for it, and alone, where the service gives no picture."""

import numpy as np

from humanseg.backgrounds import Background
from humanseg.composite_config import BlurBackground, ColorBackground, Composite, ImageBackground
from humanseg.frames import RawFrame
from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.color import from_rgb
from humanseg.vision.composite import cover, solid
from humanseg.vision.composite_planes import Blur, compose_frame
from humanseg.vision.letterbox import shrink_or_grow

#: Larger images are sent smaller: no frame is larger, and the service takes none of more pixels unless it is told to.
_MOST_PX, _LONGEST_SIDE_PX = 1920 * 1080, 4096


class Backdrop:
    """One background for all peers."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._covering: RawFrame | None = None
        self.composite = Composite(_asked(background))
        """What the service is asked for."""

    def alone(self, frame: RawFrame) -> RawFrame:
        """The background without anybody, in the frame's format and size; of a blur, the whole frame blurred.

        May be called from several threads.
        """
        if isinstance(self._background, Blur):
            return compose_frame(frame, np.zeros(frame.size.shape, np.uint8), self._background)
        covering = self._covering
        if covering is None or (covering.size, covering.pixel_format) != (frame.size, frame.pixel_format):
            covering = from_rgb(self._covering_rgb(frame.size), frame.pixel_format)
            # The frames of a peer are of one size, mostly.
            self._covering = covering
        return covering

    def _covering_rgb(self, size: Size) -> Picture:
        if isinstance(self._background, tuple):
            return solid(size, self._background)
        assert not isinstance(self._background, Blur)
        return cover(self._background, size)


def _asked(background: Background) -> BlurBackground | ColorBackground | ImageBackground:
    if isinstance(background, Blur):
        return BlurBackground(background.ratio)
    if isinstance(background, tuple):
        return ColorBackground(*background)
    size = Size.of(background).within(_MOST_PX, _LONGEST_SIDE_PX)
    return ImageBackground(cv.encode_png(shrink_or_grow(background, size)))
