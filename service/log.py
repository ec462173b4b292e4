"""Structured log lines: one line, one event, fields instead of prose.

Never a pixel, a token or a key; never a line per frame. INFO at start, stop, session open and close; WARNING when
something was lost; ERROR when someone must act.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("humanseg.service")

_FIELDS = "humanseg_fields"
_BREAKS_A_WORD = re.compile(r'[ "=]')


def event(name: str, *, level: int = logging.INFO, error: BaseException | None = None, **values: object) -> None:
    """Log that something happened; ``error`` adds its traceback, which goes to the log and never over the wire."""
    LOGGER.log(level, name, extra={_FIELDS: values}, exc_info=error)


class _LineFormatter(logging.Formatter):
    """``time=… level=… event=… key=value`` on one line, or the same as a JSON object."""

    def __init__(self, *, as_json: bool, worker: int | None) -> None:
        super().__init__()
        self._as_json = as_json
        self._who = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._who,
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(values, default=str)
        return " ".join(f"{key}={_word(value)}" for key, value in values.items())


def _word(value: object) -> str:
    text = str(value)
    # Quoted as JSON where a space, a quote or a control character would break the line apart.
    plain = text and text.isprintable() and not _BREAKS_A_WORD.search(text)
    return text if plain else json.dumps(text)


def start_logging(*, level: str, as_json: bool, worker: int | None = None) -> None:
    """Send the service's events to standard error; ``worker``: which of several processes this is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(as_json=as_json, worker=worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper())
