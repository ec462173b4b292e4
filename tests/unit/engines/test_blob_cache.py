"""The cache of compiled models: what was stored comes back, and nothing else does."""

import logging
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.blob_cache import BlobCache, CacheError

KEY = {"model": "ab12", "shape": [1, 96, 160, 3]}


def test_there_and_back(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "made" / "here")
    assert cache.load(KEY) is None
    cache.store(KEY, b"compiled")
    assert cache.load(KEY) == b"compiled"
    assert BlobCache(tmp_path / "made" / "here").load(dict(reversed(KEY.items()))) == b"compiled"
    cache.store(KEY, b"")
    assert cache.load(KEY) == b""


@pytest.mark.parametrize("change", [{"model": "ab13"}, {"shape": [1, 160, 96, 3]}, {"more": None}])
def test_another_key_is_another_file(tmp_path: Path, change: dict[str, object]) -> None:
    cache = BlobCache(tmp_path)
    cache.store(KEY, b"compiled")
    assert cache.load({**KEY, **change}) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "changed byte", "changed hash", "longer"])
def test_damaged_files_are_made_anew_and_named(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = BlobCache(tmp_path)
    cache.store(KEY, b"compiled " * 100)
    whole = cache.path(KEY).read_bytes()
    flipped = {"changed byte": 500, "changed hash": 3}.get(damage)
    if flipped is not None:
        wrong = whole[:flipped] + bytes([whole[flipped] ^ 1]) + whole[flipped + 1 :]
    else:
        wrong = {"cut": whole[:-1], "empty": b"", "longer": whole + b"x"}[damage]
    cache.path(KEY).write_bytes(wrong)
    with caplog.at_level(logging.WARNING, logger="humanseg.engines"):
        assert cache.load(KEY) is None
    assert f"{cache.path(KEY)} was cut off or changed" in caplog.text
    cache.store(KEY, b"compiled")
    assert cache.load(KEY) == b"compiled"


def test_many_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    def store_and_load(blob: bytes) -> bytes | None:
        cache = BlobCache(tmp_path)
        cache.store(KEY, blob)
        return cache.load(KEY)

    blobs = [bytes([number]) * 200_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(store_and_load, blobs))
    assert all(found in blobs for found in seen)
    assert [path.suffix for path in tmp_path.iterdir()] == [".blob"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self")):
        with pytest.raises(CacheError, match=rf"engine cache {folder} cannot be written: .*--engine-cache"):
            BlobCache(folder)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    cache.path(KEY).mkdir()
    with pytest.raises(CacheError, match="cannot be written: Is a directory"):
        cache.store(KEY, b"compiled")
    with pytest.raises(CacheError, match="cannot be read: Is a directory"):
        cache.load(KEY)
    assert list(tmp_path.iterdir()) == [cache.path(KEY)]


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: both fail within the write."""
    cache = BlobCache(tmp_path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CacheError, match="cannot be written: File too large"):
            cache.store(KEY, b"compiled" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
