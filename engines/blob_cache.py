"""A folder of compiled models: each under a key made of everything it was compiled from, so that none is ever stale."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from engines.runner import EngineError

LOGGER = logging.getLogger("humanseg.engines")
_HASH_BYTES = hashlib.sha256().digest_size
#: Raised when the form of the files changes.
_FORMAT = 1


class CacheError(EngineError):
    """The folder cannot be written or read."""


class BlobCache:
    """Bytes by key. A file holds the hash of the bytes, then the bytes; it is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, and make it where it is missing.

        Raises:
            CacheError: nothing can be written there.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise self._failed("written", error) from None

    def path(self, key: Mapping[str, object]) -> Path:
        """Where the bytes of a key are; its values are plain JSON."""
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.blob"

    def load(self, key: Mapping[str, object]) -> bytes | None:
        """The bytes of a key; None where there are none yet, or where they are damaged, which is logged.

        Raises:
            CacheError: they cannot be read.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", error) from None
        blob = content[_HASH_BYTES:]
        if hashlib.sha256(blob).digest() == content[:_HASH_BYTES]:
            return blob
        LOGGER.warning("%s was cut off or changed after it was written; it is made anew", path)
        return None

    def store(self, key: Mapping[str, object], blob: bytes) -> None:
        """Keep the bytes of a key.

        Raises:
            CacheError: they cannot be written; nothing half-written stays.
        """
        try:
            descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        except OSError as error:
            raise self._failed("written", error) from None
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(blob).digest() + blob)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path(key))
        except OSError as error:
            raise self._failed("written", error) from None
        finally:
            unfinished.unlink(missing_ok=True)

    def _failed(self, what: str, error: OSError) -> CacheError:
        return CacheError(
            f"engine cache {self._folder} cannot be {what}: {error.strerror};"
            " name a folder that this user may write (--engine-cache), or none"
        )
