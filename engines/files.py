"""Model files on disk: read whole, and what is wrong with one said in one line, whichever engine has found it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.runner import EngineError, ModelFileError

#: Of an engine's own words: ONNX Runtime lists half a page where an operator is unknown.
_MOST_CHARACTERS = 500


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file; what an engine loads is then what was checked, even if the file is replaced meanwhile.

    Raises:
        ModelFileError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(
            f"no model file {path}; see engines/models/README.md for what ships and how to train one"
        ) from None
    except OSError as error:
        raise ModelFileError(
            f"model file {path} cannot be read: {error.strerror}; it must be a file that this user may read"
        ) from None


@contextmanager
def loading(path: Path, library: str) -> Iterator[None]:
    """Name the file in whatever an engine's library raises while it loads and describes a model.

    Args:
        path: of the model.
        library: with its version.

    Raises:
        ModelFileError: anything but an `EngineError` was raised inside.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # libraries raise classes of their C++ side, and UnicodeDecodeError at damaged texts
        raise ModelFileError(
            f"{path} is not a model that {library} can load: {one_line(error)}; copy it again, or export it anew with"
            " `python -m train.export`"
        ) from error


def one_line(error: Exception) -> str:
    """What an engine's library says, for a message of ours: no line breaks, and not all of it where it is long."""
    words = " ".join(str(error).split())
    return words if len(words) <= _MOST_CHARACTERS else words[:_MOST_CHARACTERS] + "..."
