"""A file of secrets or certificates that is read anew when it changes on disk.

Looked at only when somebody asks (a scrape of the metrics does), and at most once a second. A file that cannot be read
or understood any more leaves what was read before in force, with a line in the log: a mistake in a rollout of secrets
must not end the service.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from service import log

LOOK_INTERVAL_S = 1.0
LARGEST_FILE_BYTES = 1 << 20

Content = TypeVar("Content")


class SecretFileError(ValueError):
    """A file that cannot be used; the message names it and never shows what it holds."""


class WatchedFile(Generic[Content]):
    """The content of one or more files that belong together. For any thread."""

    def __init__(self, paths: tuple[Path, ...], parse: Callable[..., Content]) -> None:
        """Read the files; ``parse`` gets the bytes of each, and raises ValueError where they will not do.

        Raises:
            SecretFileError: a file cannot be read or understood.
        """
        self._paths = paths
        self._parse = parse
        self._lock = threading.Lock()
        self._looked_at_s = time.monotonic()
        self._seen = self._look()
        self._content = self._read()
        self._is_refused = False

    def current(self) -> Content:
        """What the files say now; what they said before where that cannot be used."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_at_s < LOOK_INTERVAL_S:
                return self._content
            self._looked_at_s = now_s
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                try:
                    self._content = self._read()
                    self._is_refused = False
                    log.event("file_reloaded", file=self._name)
                except SecretFileError as error:
                    self._is_refused = True
                    log.event("file_refused", level=logging.ERROR, file=self._name, reason=str(error))
            return self._content

    def is_refused(self) -> bool:
        """Whether the files changed into something that cannot be used; looks at them, so that nobody has to call."""
        self.current()
        return self._is_refused

    @property
    def _name(self) -> str:
        return ",".join(str(path) for path in self._paths)

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What tells one version of the files from another; a Kubernetes secret changes by another target of a link."""
        seen: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                found = path.stat()
                seen.append((found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError:
                seen.append(None)
        return tuple(seen)

    def _read(self) -> Content:
        contents = []
        for path in self._paths:
            try:
                if path.stat().st_size > LARGEST_FILE_BYTES:
                    raise SecretFileError(f"{path} has more than {LARGEST_FILE_BYTES} bytes; is it the right file?")
                contents.append(path.read_bytes())
            except OSError as error:
                raise SecretFileError(f"cannot read {path} ({error.strerror})") from None
        try:
            return self._parse(*contents)
        except ValueError as error:
            raise SecretFileError(f"{self._name}: {error}") from None
