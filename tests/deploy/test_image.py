"""The Dockerfile: clean by hadolint, and what it copies is let in, complete, and enough to serve from."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

from benchmarks.target import MALLOC_ENVIRONMENT
from support.manifests import BIN, ROOT
from support.server import running_server
from support.timing import limit_s

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def copied_sources() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def let_in(path: PurePosixPath) -> bool:
    """Whether .dockerignore lets a file through to the builder: the last pattern that matches it decides."""
    verdict = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        allows = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        anywhere = pattern.startswith("**/")
        names = [str(parent) for parent in (path, *path.parents)]
        names += [parent.name for parent in (path, *path.parents)] if anywhere else []
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names if name not in ("", ".")):
            verdict = allows
    return verdict


def tracked_files() -> list[PurePosixPath]:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    return [PurePosixPath(line) for line in listed.stdout.splitlines()]


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=limit_s(60), check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_memory_settings_are_the_same_wherever_a_server_is_started() -> None:
    in_image = dict(re.findall(r"(MALLOC_\w+)=(\d+)", DOCKERFILE))
    in_makefile = dict(re.findall(r"(MALLOC_\w+)=(\d+)", (ROOT / "Makefile").read_text()))
    assert in_image == in_makefile == MALLOC_ENVIRONMENT


def test_both_stages_have_the_same_base_and_the_last_is_not_root() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", last_stage, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert not re.search(r"^(ENTRYPOINT|CMD) [^\[]", last_stage, re.MULTILINE), "a shell would swallow SIGTERM"


def test_the_stand_in_for_the_package_has_the_version_that_the_build_reads() -> None:
    """Dependencies are installed before the package is copied; hatchling refuses a package without its version."""
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["path"]
    assert re.search(rf"""echo '__version__ = "[^"]+"' > {re.escape(source)}""", DOCKERFILE)


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    sources = copied_sources()
    assert {"humanseg", "engines", "service", "pyproject.toml", "constraints.txt"} == set(sources)
    for path in tracked_files():
        wanted = any(path == PurePosixPath(source) or PurePosixPath(source) in path.parents for source in sources)
        assert let_in(path) == wanted, path
    assert let_in(PurePosixPath("engines/models/medium.onnx"))
    assert let_in(PurePosixPath("humanseg/v1/segmentation_pb2.py"))
    assert not let_in(PurePosixPath("humanseg/__pycache__/frames.cpython-311.pyc"))
    assert not let_in(PurePosixPath(".git/config"))
    assert not let_in(PurePosixPath("runs/medium/best.pt"))


def test_the_copied_folders_alone_serve_are_healthy_and_write_nothing(models_folder: Path, tmp_path: Path) -> None:
    """Like the container: the folders of the image, no checkout on the path, a root that is not written to."""
    app = tmp_path / "app"
    for source in copied_sources():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, app / source, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    before = sorted(app.rglob("*"))
    # The editable install puts the checkout on the path, which no container has.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.path[:] = [p for p in sys.path if not os.path.exists(os.path.join(p or '.', 'train'))]\n"
        "sys.path.insert(0, os.getcwd())\n"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    with running_server(models_folder, cwd=app, environment=environment) as server:
        healthy = subprocess.run(
            [sys.executable, "-m", "service.healthcheck"],
            cwd=app, env={**environment, "HUMANSEG_PORT": str(server.port)},
            capture_output=True, text=True, timeout=limit_s(30), check=False,
        )  # fmt: skip
        assert healthy.returncode == 0, healthy.stderr
        server.terminate()
        assert server.wait() == 0
    unhealthy = subprocess.run(
        [sys.executable, "-m", "service.healthcheck"],
        cwd=app, env={**environment, "HUMANSEG_PORT": str(server.port)},
        capture_output=True, text=True, timeout=limit_s(30), check=False,
    )  # fmt: skip
    assert unhealthy.returncode == 1
    assert f"the server on {server.target} is UNAVAILABLE" in unhealthy.stderr
    assert sorted(app.rglob("*")) == before
