"""docs/balancing.md: its code runs as it stands there, and the settings it names stand in the example."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.envoy import EXAMPLE, envoy_program, why_no_envoy
from support.models import write_red_model
from support.server import ROOT, running_server
from support.timing import limit_s

PAGE = (ROOT / "docs" / "balancing.md").read_text()


def snippet(name: str, language: str) -> str:
    (found,) = re.findall(rf"^<!-- run: {name} -->\n```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "GRPC_VERBOSITY": "ERROR", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def test_the_snippet_of_round_robin_runs(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    code = snippet("round robin", "python")
    address = "dns:///humanseg-headless.humanseg:50051"
    assert address in code
    with running_server(tmp_path) as one, running_server(tmp_path) as other:
        done = run([sys.executable, "-c", code.replace(address, f"ipv4:{one.target},{other.target}")])
    assert (done.returncode, done.stdout) == (0, "medium\n"), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(why_no_envoy() is not None, reason=str(why_no_envoy()))
def test_the_command_that_validates_the_example_works() -> None:
    program, *arguments = shlex.split(snippet("validate", "sh"))
    assert program == "envoy"
    done = run([envoy_program(), *arguments])
    assert done.returncode == 0, done.stderr


def keys(node: object) -> set[str]:
    if isinstance(node, dict):
        return {str(key) for key in node} | set().union(*(keys(value) for value in node.values()))
    return set().union(*(keys(value) for value in node)) if isinstance(node, list) else set()


def test_every_setting_of_the_table_stands_in_the_example() -> None:
    named = set(re.findall(r"^\| (?:route )?`(\w+)` \|", PAGE, re.MULTILINE))
    assert len(named) > 5
    assert named <= keys(yaml.safe_load(EXAMPLE.read_text()))
