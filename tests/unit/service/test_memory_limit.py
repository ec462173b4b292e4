"""The limit of a container as the kernel shows it, drawn as files."""

import os
from pathlib import Path

import pytest

from service.memory_limit import memory_limit_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
GROUP_1 = "12:cpu,cpuacct:/a/b\n5:memory:/a/b\n"
GROUP_2 = "0::/a/b\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "4096\n"}, 4096),
        (GROUP_2, {"a/b/memory.max": "max\n", "a/memory.max": "8192\n"}, 8192),
        (GROUP_2, {"a/b/memory.max": "4096\n", "a/memory.max": "8192\n"}, 4096),
        (GROUP_2, {"a/b/memory.max": "max\n"}, MACHINE),
        # In a container without a namespace of its own the path is the host's, and its group is mounted as the root.
        (GROUP_1, {"memory/memory.limit_in_bytes": "4096\n"}, 4096),
        (GROUP_1, {"memory/a/b/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        (GROUP_1, {"a/b/memory.max": "4096\n"}, MACHINE),
        ("", {"memory.max": "4096\n"}, MACHINE),
    ],
)
def test_the_least_limit_around_the_process(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys" / "fs" / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert memory_limit_bytes(tmp_path) == expected


def test_a_machine_that_shows_no_groups(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path) == MACHINE
