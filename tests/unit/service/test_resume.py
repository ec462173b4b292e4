"""Resume tokens: what opens them, and what does not; `tests/fuzz/test_tokens.py` brings damaged ones."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import PARAMETERS, FusionState, fuse
from service.pipeline import Fit, FusionMemory
from service.resume import LARGEST_TOKEN_BYTES, Keys, ResumeOutcome, Sealer, TokenRefused, _sign, parse_keys
from service.watched_file import SecretFileError
from support.clips import draw_clip

SIZE = Size(64, 40)
KEY = "k" * 32
VERSIONS = {"medium": "v1", "large": "v1"}


def memory_of(model: str = "medium") -> FusionMemory:
    state = FusionState()
    for frame in draw_clip(shifts_px=[0.0, 1.0, 2.0], size=SIZE):
        fuse(state, frame.gray, frame.noisy, frame.capture_time_us, PARAMETERS[TemporalFusion.HIGH])
    return FusionMemory(state, Fit(model, (Size(64, 64), SIZE), (Rotation.DEG_90, True)), is_unfused=True)


def sealer(folder: Path, *keys: str, max_age_s: float = 60.0, versions: dict[str, str] | None = None) -> Sealer:
    path = folder / "keys"
    path.write_text("\n".join(keys or (KEY,)))
    return Sealer(Keys(path), max_age_s, versions or VERSIONS)


def outcome(sealer: Sealer, token: bytes, model: str = "medium", tenant: str = "acme") -> ResumeOutcome:
    try:
        sealer.open(token, model, tenant)
    except TokenRefused as refused:
        return refused.outcome
    return ResumeOutcome.RESUMED


def token_of(sealer: Sealer) -> bytes:
    token = sealer.seal(memory_of(), "acme")
    assert token is not None
    assert len(token) <= LARGEST_TOKEN_BYTES
    return token


def test_another_replica_with_the_same_key_gets_the_memory_back(tmp_path: Path) -> None:
    token = token_of(sealer(tmp_path))
    memory, back = memory_of(), sealer(tmp_path).open(token, "medium", "acme")
    assert (back.fit, back.is_unfused) == (memory.fit, True)
    assert back.state.memory is not None
    assert memory.state.memory is not None
    assert np.abs(back.state.memory.mask.astype(int) - memory.state.memory.mask).max() <= 129


def test_each_refusal_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = sealer(tmp_path)
    token = token_of(ours)
    assert outcome(ours, token) is ResumeOutcome.RESUMED
    assert outcome(ours, b"") is ResumeOutcome.MALFORMED
    assert outcome(ours, token + bytes(LARGEST_TOKEN_BYTES)) is ResumeOutcome.MALFORMED
    assert outcome(ours, bytes([2]) + token[1:]) is ResumeOutcome.OTHER_VERSION
    assert outcome(ours, token[:-1] + bytes([token[-1] ^ 1])) is ResumeOutcome.NOT_AUTHENTIC
    assert outcome(ours, token, tenant="evil") is ResumeOutcome.NOT_AUTHENTIC
    assert outcome(sealer(tmp_path, "x" * 32), token) is ResumeOutcome.NOT_AUTHENTIC
    assert outcome(Sealer(Keys(None), 60, VERSIONS), token) is ResumeOutcome.NOT_AUTHENTIC
    assert outcome(sealer(tmp_path, "x" * 32, KEY), token) is ResumeOutcome.RESUMED, "a key on its way out"
    assert outcome(sealer(tmp_path), token, model="large") is ResumeOutcome.OTHER_MODEL
    assert outcome(sealer(tmp_path, versions={"medium": "v2"}), token) is ResumeOutcome.OTHER_MODEL
    now_s = time.time()
    monkeypatch.setattr("service.resume.time.time", lambda: now_s + 61)
    assert outcome(ours, token) is ResumeOutcome.EXPIRED
    monkeypatch.setattr("service.resume.time.time", lambda: now_s - 20)
    assert outcome(ours, token) is ResumeOutcome.EXPIRED, "from the future: a clock is wrong"


def test_nothing_is_sealed_where_nothing_is_remembered(tmp_path: Path) -> None:
    assert sealer(tmp_path).seal(FusionMemory(), "") is None


@pytest.mark.parametrize("holds", [b"", b"\n# only a comment\n", b"short\n", KEY.encode() + b"\nshort"])
def test_keys_that_will_not_do(tmp_path: Path, holds: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        parse_keys(holds)
    assert b"short" not in str(caught.value).encode(), "a key is never shown"
    (tmp_path / "keys").write_bytes(holds)
    with pytest.raises(SecretFileError, match=str(tmp_path / "keys")):
        Keys(tmp_path / "keys")


@pytest.mark.parametrize(
    "change",
    [
        {"issued_s": "soon"}, {"issued_s": float("nan")}, {"issued_s": 10**400}, {"canvas": 5}, {"canvas": [1, 2, 3]},
        {"inner": [9, 9]}, {"rotation": "DEG_45"}, {"rotation": []}, {"model": None}, {"inner": [float("inf"), 1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_header_that_makes_no_sense(tmp_path: Path, change: dict[str, object]) -> None:
    ours = sealer(tmp_path)
    token = token_of(ours)
    end = 3 + int.from_bytes(token[1:3], "big")
    text = json.dumps({**json.loads(token[3:end]), **change}).encode()
    content = token[:1] + len(text).to_bytes(2, "big") + text + token[end:-32]
    found = outcome(ours, content + _sign(KEY.encode(), content, "acme"))
    assert found in (ResumeOutcome.MALFORMED, ResumeOutcome.EXPIRED, ResumeOutcome.OTHER_MODEL)
