"""The Dockerfile: clean by hadolint, and what it copies is let in, complete, and enough to serve from."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from benchmarks.target import MALLOC_ENVIRONMENT
from service.settings import load_settings
from support.manifests import BIN, ROOT
from support.server import running_server
from support.timing import limit_s

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTALL = (ROOT / "deploy" / "image" / "install.sh").read_text()


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
    in_image = {name: value for name, value in environment("runtime").items() if name.startswith("MALLOC_")}
    in_makefile = dict(re.findall(r"(MALLOC_\w+)=(\d+)", (ROOT / "Makefile").read_text()))
    assert in_image == in_makefile == MALLOC_ENVIRONMENT


def stages() -> dict[str, tuple[str, str]]:
    """Base and lines of each stage, by name, in order."""
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {name: (base, lines) for base, name, lines in zip(*[iter(parts)] * 3, strict=True)}


def instructions(stage: str, word: str) -> list[str]:
    """What follows a word in a stage, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", stages()[stage][1])
    return re.findall(rf"^{word} (.+)$", lines, re.MULTILINE)


def environment(stage: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in instructions(stage, "ENV") for pair in shlex.split(line))


def test_a_build_without_a_target_makes_the_image_for_cpus() -> None:
    assert list(stages()) == ["build", "runtime", "gpu-build", "gpu", "cpu"]
    assert stages()["cpu"] == ("runtime", ""), "what it is, runtime is"
    assert stages()["build"][0] == stages()["runtime"][0], "an environment of one Python, under another"
    assert ":" in stages()["build"][0], "pinned"


def test_the_base_for_gpus_must_be_given() -> None:
    assert stages()["gpu-build"][0] == stages()["gpu"][0] == "${GPU_BASE}"
    default = re.search(r"^ARG GPU_BASE=([^/\s]+)/", DOCKERFILE[: DOCKERFILE.index("\nFROM ")], re.MULTILINE)
    assert default is not None
    assert default[1].endswith(".invalid"), "a name that nobody can register"


@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_what_runs_is_not_root_and_gets_its_signals(stage: str) -> None:
    (user,) = instructions(stage, "USER")
    assert all(int(number) > 0 for number in user.split(":")), "by number, or Kubernetes cannot see it"
    assert instructions(stage, "STOPSIGNAL") == ["SIGTERM"]
    (command,) = instructions(stage, "CMD")
    assert json.loads(command)[:3] == ["python", "-m", "service"], "a shell would swallow SIGTERM"
    assert all(json.loads(words) == [] for words in instructions(stage, "ENTRYPOINT"))
    (check,) = instructions(stage, "HEALTHCHECK")
    assert json.loads(check.split(" CMD ")[1]) == ["python", "-m", "service.healthcheck"]


@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_what_runs_is_copied_and_nothing_is_installed_into_it(stage: str) -> None:
    """No compiler and no pip: whatever needs them is done in the stage before."""
    assert instructions(stage, "RUN") == []
    source = {"runtime": "build", "gpu": "gpu-build"}[stage]
    copies = [line for line in instructions(stage, "COPY") if "/plans" not in line]
    assert copies == [f"--from={source} {folder} {folder}" for folder in ("/opt/venv", "/app")]


def test_the_folder_of_built_engines_is_the_users_own() -> None:
    (user,) = instructions("gpu", "USER")
    plans = environment("gpu")["HUMANSEG_PLANS"]
    assert f"--from=gpu-build --chown={user} {plans} {plans}" in instructions("gpu", "COPY")


def test_the_image_for_gpus_differs_in_its_engine_alone() -> None:
    own = {"HUMANSEG_ENGINE", "HUMANSEG_PLANS", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
    gpu = environment("gpu")
    assert {name: value for name, value in gpu.items() if name not in own} == environment("runtime")
    assert own <= gpu.keys()
    assert MALLOC_ENVIRONMENT.items() <= gpu.items()
    for word in ("EXPOSE", "USER", "WORKDIR", "HEALTHCHECK", "CMD"):
        assert instructions("gpu", word) == instructions("runtime", word)
    assert load_settings([], {name: value for name, value in gpu.items() if name.startswith("HUMANSEG_")})


@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_nothing_is_told_to_the_maker_of_the_engine(stage: str) -> None:
    assert environment(stage)["ORT_DISABLE_TELEMETRY"] == "1"


def extras(*names: str) -> set[str]:
    """Names of the packages that some extras of pyproject.toml ask for, those of extras within them included."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages: set[str] = set()
    for needed in (needed for name in names for needed in known[name]):
        inner = re.match(r"humanseg\[(.+)\]", needed)
        packages |= extras(*inner[1].split(",")) if inner else {re.split(r"[\[<>=]", needed)[0]}
    return packages


def test_the_extras_of_the_images_exist_and_bring_neither_torch_nor_pyav() -> None:
    (cpu,) = [line.split("=")[1] for line in instructions("build", "ARG")]
    assert not extras(*cpu.split(",")) & {"torch", "av", "onnxruntime-gpu", "tensorrt-cu13"}
    gpu, _ = (line.split("=")[1] for line in instructions("gpu-build", "ARG"))
    assert extras(*gpu.split(",")) >= {"tensorrt-cu13", "cuda-bindings", "grpcio-health-checking"}
    assert not extras(*gpu.split(",")) & {"torch", "onnxruntime-gpu"}, "the same files as onnxruntime's"


def test_the_stand_in_for_the_package_has_the_version_that_the_build_reads() -> None:
    """Dependencies are installed before the package is copied; hatchling refuses a package without its version."""
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["path"]
    assert re.search(rf"""echo '__version__ = "[^"]+"' > {re.escape(source)}""", INSTALL)


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    sources = copied_sources()
    files = {"pyproject.toml", "constraints.txt", "deploy/image/install.sh"}
    assert {"humanseg", "engines", "service", *files} == set(sources)
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
    for source in set(copied_sources()):
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


def test_every_build_argument_named_in_the_docs_exists() -> None:
    page = (ROOT / "docs" / "image.md").read_text()
    named = set(re.findall(r"--build-arg (\w+)=", page)) | set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    assert named == set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
