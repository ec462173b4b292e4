"""What a command line puts behind people, read from its words: ``blur``, ``#rrggbb``, or the path of a picture."""

import argparse
import re
from pathlib import Path
from typing import TypeAlias

from humanseg.media import MediaError, decode_photo, read_photo
from humanseg.vision.arrays import Picture
from humanseg.vision.composite_planes import Blur

#: The room itself blurred, one color (red, green, blue, 0 to 255 each), or an (H, W, 3) uint8 RGB picture.
Background: TypeAlias = Blur | tuple[int, int, int] | Picture


def choose_background(text: str) -> Background:
    """The background of that name.

    Raises:
        MediaError: neither blur, nor a color, nor a picture that can be read.
    """
    if text == "blur":
        return Blur()
    if text.startswith("#"):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            raise MediaError(f"color {text} is not #rrggbb, for example #00ff00")
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    path = Path(text)
    if not path.is_file():
        raise MediaError(f"{text}: neither blur, nor #rrggbb, nor a picture's file")
    return decode_photo(read_photo(path), path)


def background_argument(text: str) -> Background:
    """`choose_background` as the ``type`` of a command line's argument.

    Raises:
        argparse.ArgumentTypeError: as `choose_background` says.
    """
    try:
        return choose_background(text)
    except MediaError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
