"""An example's program that serves a page, as a process of its own on a free port."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.server import ROOT
from support.timing import limit_s


@contextmanager
def running_page(module: str, *flags: str, cwd: Path = ROOT) -> Iterator[str]:
    """Start it, and give the address that it prints once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", module, "--port", "0", *flags],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines: list[str] = []
    listening = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "http://" in line:
                listening.set()
        listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        listening.wait(limit_s(30))
        found = re.search(r"http://[\d.]+:\d+", "".join(lines))
        assert found, "".join(lines)
        yield found[0]
    finally:
        process.terminate()
        try:
            process.wait(limit_s(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(limit_s(5))
        assert process.stdout is not None
        process.stdout.close()
        assert "Traceback" not in "".join(lines), "".join(lines)
