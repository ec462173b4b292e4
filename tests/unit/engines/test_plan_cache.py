"""The engine cache: real files, spoiled in many ways; each refusal has its class and says how to mend it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from engines.plan import (
    BuiltPlan,
    CacheWriteError,
    Flavor,
    PlanDamagedError,
    PlanError,
    PlanForeignError,
    PlanMissingError,
    PlanStaleError,
    PlanUnsafeError,
    Precision,
    Sidecar,
)
from engines.plan_cache import PlanCache
from humanseg.vision.arrays import Size
from support.plans import BUILT, KEY, stored

MEND = "build it on this machine: `python -m engines.build --model medium --precision fp16 --max-batch 4`"


def never() -> BuiltPlan:
    raise AssertionError("built although the plan was there")


def plan_of(folder: Path) -> Path:
    (path,) = folder.glob("*.plan")
    return path


def refusal(cache: PlanCache, key: object = KEY) -> PlanError:
    with pytest.raises(PlanError) as caught:
        cache.load(key)  # type: ignore[arg-type]
    return caught.value


def test_built_once_then_read(tmp_path: Path) -> None:
    lines: list[str] = []
    cache = PlanCache(tmp_path / "new" / "engines")
    built = cache.load_or_build(KEY, lambda: BUILT, lines.append)
    assert (built.plan, built.built_now) == (BUILT.plan, True)
    assert lines == [f"building: no engine of medium in {cache.folder}; {MEND}"]
    found = cache.load_or_build(KEY, never, lines.append)
    assert (found.plan, found.built_now, found.path) == (BUILT.plan, False, built.path)
    assert found.sidecar == Sidecar.of(KEY, BUILT)
    assert len(lines) == 1
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in cache.folder.iterdir()} == {0o600}


def test_nothing_was_built(tmp_path: Path) -> None:
    error = refusal(PlanCache(tmp_path / "none"))
    assert isinstance(error, PlanMissingError)
    assert str(error) == f"no engine of medium in {tmp_path / 'none'}; {MEND}"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("kept", "text"),
    [(0, "0 bytes, the builder wrote 10240"), (5000, "5000 bytes, the builder wrote 10240"), (10239, "10239 bytes")],
)
def test_a_plan_that_is_cut_off(tmp_path: Path, kept: int, text: str) -> None:
    cache = stored(tmp_path)
    os.truncate(plan_of(tmp_path), kept)
    error = refusal(cache)
    assert isinstance(error, PlanDamagedError)
    assert str(error).startswith(f"{plan_of(tmp_path)} is cut off or grown: {text}")
    assert str(error).endswith(MEND)


@pytest.mark.parametrize("place", [0, 3000, len(BUILT.plan) - 1])
def test_one_changed_byte(tmp_path: Path, place: int) -> None:
    cache = stored(tmp_path)
    content = bytearray(BUILT.plan)
    content[place] ^= 1
    plan_of(tmp_path).write_bytes(content)
    error = refusal(cache)
    assert isinstance(error, PlanDamagedError)
    assert str(error) == f"{plan_of(tmp_path)} was changed after it was built (its SHA-256 differs); {MEND}"


def test_a_plan_that_has_grown_or_gone(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    plan = plan_of(tmp_path)
    plan.write_bytes(BUILT.plan + b"x")
    assert "cut off or grown: more bytes" in str(refusal(cache))
    plan.unlink()
    error = refusal(cache)
    assert isinstance(error, PlanDamagedError)
    assert f"is there, but its plan {plan.name} is not; {MEND}" in str(error)


@pytest.mark.parametrize("content", [b"", b"{}", b"engine", b'{"format": 1}'])
def test_a_sidecar_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    cache = stored(tmp_path)
    cache.sidecar_path(KEY).write_bytes(content)
    error = refusal(cache)
    assert isinstance(error, PlanDamagedError)
    assert str(cache.sidecar_path(KEY)) in str(error)


def test_a_sidecar_with_another_hash_written_into_it(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    sidecar = cache.sidecar_path(KEY)
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"build_s": 1.25', b'"build_s": 9.25'))
    assert "was changed after it was written" in str(refusal(cache))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"compute_capability": "9.0"}, PlanForeignError, "another compute_capability 8.9, wanted 9.0"),
        ({"version": "11.5.0.1"}, PlanForeignError, "another version 11.4.0.106, wanted 11.5.0.1"),
        ({"driver": "13.1"}, PlanForeignError, "another driver 13.0, wanted 13.1"),
        ({"flavor": Flavor.TENSORRT_RTX}, PlanForeignError, "another flavor tensorrt, wanted tensorrt-rtx"),
        ({"onnx_sha256": "cd" * 32}, PlanStaleError, "another onnx_sha256 abababababab..., wanted cdcdcdcdcdcd..."),
        ({"precision": Precision.FP32}, PlanStaleError, "another precision fp16, wanted fp32"),
        ({"buckets": (1, 2, 4, 8)}, PlanStaleError, "another buckets 1,2,4, wanted 1,2,4,8"),
        ({"canvases": (Size(320, 192),)}, PlanStaleError, "another canvases 320x192,192x320, wanted 320x192"),
        ({"recipe": 999}, PlanStaleError, "another recipe 1, wanted 999"),
    ],
)
def test_what_was_built_for_something_else(
    tmp_path: Path, changes: dict[str, object], kind: type[PlanError], text: str
) -> None:
    """Under its own name beside the one wanted, and renamed to that: both are refused by the same words."""
    cache = stored(tmp_path)
    other = replace(KEY, **changes)  # type: ignore[arg-type]
    error = refusal(cache, other)
    assert type(error) is kind
    assert text in str(error)
    assert "build it on this machine: `python -m engines.build --model medium" in str(error)
    cache.sidecar_path(KEY).rename(cache.sidecar_path(other))
    plan_of(tmp_path).rename(tmp_path / f"{other.stem}{plan_of(tmp_path).name.removeprefix(KEY.stem)}")
    renamed = refusal(cache, other)
    assert type(renamed) is kind
    assert text in str(renamed)


def test_the_nearest_is_named_and_another_model_is_not(tmp_path: Path) -> None:
    stored(tmp_path, replace(KEY, model="large"))
    assert isinstance(refusal(PlanCache(tmp_path)), PlanMissingError)
    stored(tmp_path, replace(KEY, precision=Precision.FP32, driver="12.8"))
    stored(tmp_path, replace(KEY, driver="12.8"))
    assert "another driver 12.8, wanted 13.0;" in str(refusal(PlanCache(tmp_path)))


@pytest.mark.parametrize("spoil", ["plan", "sidecar", "both"])
def test_what_is_refused_is_built_again(tmp_path: Path, spoil: str) -> None:
    lines: list[str] = []
    cache = stored(tmp_path)
    if spoil in ("plan", "both"):
        os.truncate(plan_of(tmp_path), 17)
    if spoil in ("sidecar", "both"):
        cache.sidecar_path(KEY).write_bytes(b"no")
    assert cache.load_or_build(KEY, lambda: BUILT, lines.append).built_now
    assert cache.load(KEY).plan == BUILT.plan
    assert len(lines) == 1


def test_a_new_plan_removes_the_old_one_and_leftovers(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    leftover = tmp_path / f"{KEY.stem}-000000000000.plan.abc.tmp"
    leftover.write_bytes(b"half")
    stranger = tmp_path / "notes.txt"
    stranger.write_text("mine")
    cache.sidecar_path(KEY).unlink()
    cache.load_or_build(KEY, lambda: replace(BUILT, plan=b"other"), lambda line: None)
    assert cache.load(KEY).plan == b"other"
    assert plan_of(tmp_path).read_bytes() == b"other"
    assert stranger.exists()
    assert not leftover.exists()


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> BuiltPlan:
        raise RuntimeError("no GPU")

    with pytest.raises(RuntimeError, match="no GPU"):
        PlanCache(tmp_path).load_or_build(KEY, fails, lambda line: None)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert PlanCache(tmp_path).load_or_build(KEY, lambda: BUILT, lambda line: None).built_now


@pytest.mark.parametrize("which", ["folder", "plan", "sidecar"])
def test_a_file_that_others_may_write_is_refused_and_not_built_over(tmp_path: Path, which: str) -> None:
    cache = stored(tmp_path / "engines")
    path = {"folder": cache.folder, "plan": plan_of(cache.folder), "sidecar": cache.sidecar_path(KEY)}[which]
    path.chmod(path.stat().st_mode | 0o002)
    for ask in (lambda: cache.load(KEY), lambda: cache.load_or_build(KEY, never, lambda line: None)):
        with pytest.raises(PlanUnsafeError, match=f"every user may write {path}, and an engine is code; `chmod o-w"):
            ask()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_plan_of_another_user(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    os.chown(plan_of(tmp_path), 12345, -1)
    with pytest.raises(PlanUnsafeError, match="belongs to user 12345, allowed are this one"):
        cache.load(KEY)


def test_a_pipe_or_a_folder_in_the_place_of_a_plan_is_not_waited_for(tmp_path: Path) -> None:
    cache = stored(tmp_path)
    plan = plan_of(tmp_path)
    plan.unlink()
    os.mkfifo(plan, 0o600)
    assert isinstance(error := refusal(cache), PlanDamagedError)
    assert "is not a regular file" in str(error)
    plan.unlink()
    plan.mkdir()
    assert isinstance(error := refusal(cache), PlanDamagedError)
    assert "cannot be read: Is a directory" in str(error)


def test_a_cache_where_there_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(CacheWriteError, match=r"engine cache .*engines cannot be written: File exists .*--cache"):
        PlanCache(tmp_path / "engines").load_or_build(KEY, never, lambda line: None)
    with pytest.raises(CacheWriteError, match="Not a directory"):
        PlanCache(tmp_path / "engines" / "below").load_or_build(KEY, never, lambda line: None)
