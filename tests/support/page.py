"""A page of an example in headless Chromium with a file as its camera."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest

from support.browser import find_browser
from support.server import ROOT
from support.timing import limit_s

PACKAGES = ROOT / "examples" / "web"

needs_browser = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(240)),
    pytest.mark.skipif(find_browser() is None, reason="needs Chromium"),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js"),
    pytest.mark.skipif(
        not (PACKAGES / "node_modules").is_dir(), reason="needs its packages: npm ci --prefix examples/web"
    ),
]


def look(folder: Path, url: str, camera: Path, press: str, until: str, canvases: dict[str, str]) -> dict[str, Any]:
    """Press a button, wait until the JavaScript condition holds, and keep what is on canvases or videos.

    Returns ``text``, ``figures``, ``requests`` and what went wrong: ``failed``, and errors in ``console``; under each
    name of ``canvases`` an (H, W, 4) uint8 RGBA picture. ``folder`` gets ``page.png``.
    """
    task = {
        "url": url, "browser": find_browser(), "camera": str(camera), "folder": str(folder),
        "packages": str(PACKAGES), "press": press, "until": until, "canvases": canvases,
        "limit_ms": limit_s(60) * 1000,
    }  # fmt: skip
    done = subprocess.run(
        ["node", ROOT / "tests" / "examples" / "look.mjs", json.dumps(task)],
        capture_output=True, text=True, timeout=limit_s(150), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert "failed" not in seen, seen
    for name in canvases:
        picture = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert picture is not None, name
        seen[name] = picture[..., [2, 1, 0, 3]]
    return seen
