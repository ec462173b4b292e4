"""docs/kubernetes.md: its commands run, and every folder and setting it names is there."""

import re
from dataclasses import fields

from service.settings import ENVIRONMENT_PREFIX, Settings
from support.manifests import ROOT, render

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()


def test_its_commands_render_the_overlays() -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    overlays = re.findall(r"^kubectl kustomize deploy/k8s/(overlays/\w+)$", block, re.MULTILINE)
    assert len(overlays) == len(block.splitlines())
    for overlay in overlays:
        assert render(overlay)


def test_it_has_every_overlay_and_component_and_no_other() -> None:
    k8s = ROOT / "deploy" / "k8s"
    there = {path.name for kind in ("overlays", "components") for path in (k8s / kind).iterdir()}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == there


def test_every_variable_it_names_is_a_setting() -> None:
    known = {ENVIRONMENT_PREFIX + item.name.upper() for item in fields(Settings)}
    assert set(re.findall(r"HUMANSEG_[A-Z_]+", PAGE)) <= known
