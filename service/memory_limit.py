"""How much memory this process may use before the kernel ends it: its container's limit, or the machine's memory."""

import os
from pathlib import Path


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """The least limit of this process's control groups (versions 1 and 2), the machine's memory where none has one.

    ``root`` is where ``proc`` and ``sys`` are.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_group_limits(root)])


def _group_limits(root: Path) -> list[int]:
    """Of the process's own group and of those around it; a container sees its own one as the outermost."""
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / ("sys/fs/cgroup/memory" if controllers else "sys/fs/cgroup")
        file = "memory.limit_in_bytes" if controllers else "memory.max"
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            text = _text(folder / file).strip()
            if text.isdecimal():  # "max", and no file in the outermost group of a machine: no limit
                limits.append(int(text))
            if folder == mount:
                break
    return limits


def _text(file: Path) -> str:
    """What a file of the kernel says, nothing where there is none: no control groups, or another system."""
    try:
        return file.read_text()
    except OSError:
        return ""
