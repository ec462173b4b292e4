"""One event, one line, whatever stands in it."""

import json
import logging

import pytest

from service import log


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    root, ours = logging.getLogger(), log.LOGGER
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


def test_a_line_has_fields_and_no_prose(capsys: pytest.CaptureFixture[str]) -> None:
    log.start_logging(level="info", as_json=False)
    log.event("session_opened", session="ab12", peer="ipv4:1.2.3.4:5", label="", note='two "words"\nand a line')
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert ' level=info event=session_opened session=ab12 peer=ipv4:1.2.3.4:5 label="" ' in line
    assert r'note="two \"words\"\nand a line"' in line


def test_json_lines_and_a_traceback_on_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    log.start_logging(level="warning", as_json=True)
    log.event("unheard")
    try:
        raise ValueError("secret of the server")
    except ValueError as error:
        log.event("call_failed", level=logging.ERROR, error=error, request_id="ab")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    fields = json.loads(lines[0])
    assert (fields["level"], fields["event"], fields["request_id"]) == ("error", "call_failed", "ab")
    assert "ValueError: secret of the server" in fields["traceback"]
