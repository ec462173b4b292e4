"""The rules by promtool: `make monitoring-check`."""

import shutil
from pathlib import Path

import pytest

from support.manifests import ROOT, Manifests, render_with
from support.monitoring import write_rules
from support.prometheus import promtool, why_no_prometheus

pytestmark = pytest.mark.skipif(why_no_prometheus() is not None, reason=str(why_no_prometheus()))

TESTS = sorted((ROOT / "tests" / "deploy" / "alerts").glob("*.yaml"))


@pytest.fixture(scope="module")
def monitored() -> Manifests:
    return Manifests(render_with("cpu", "monitoring"))


def test_the_rules_are_valid(monitored: Manifests, tmp_path: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", write_rules(monitored, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_every_alert_fires_when_it_must_and_is_silent_when_it_must_not(
    path: Path, monitored: Manifests, tmp_path: Path
) -> None:
    write_rules(monitored, tmp_path)
    shutil.copyfile(path, tmp_path / path.name)
    done = promtool("test", "rules", tmp_path / path.name)
    assert done.returncode == 0, done.stdout + done.stderr
