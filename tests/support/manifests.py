"""The Kubernetes manifests as a cluster gets them: rendered by the real kustomize."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent
#: Where the tools of the dev extra are.
BIN = Path(sys.executable).parent


def render(folder: str) -> str:
    """The manifests of a kustomization of ours as YAML; kustomize's own complaints fail the test."""
    return render_folder(ROOT / "deploy" / "k8s" / folder)


def render_folder(folder: Path) -> str:
    """The same for a kustomization anywhere."""
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", folder],
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return done.stdout


@cache
def render_with(overlay: str, *components: str) -> str:
    """An overlay with components, as a user's own kustomization puts them together."""
    with TemporaryDirectory() as folder:
        k8s = Path(os.path.relpath(ROOT / "deploy" / "k8s", Path(folder).resolve()))
        kustomization = {
            "resources": [str(k8s / "overlays" / overlay)],
            "components": [str(k8s / "components" / one) for one in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render_folder(Path(folder))


class Manifests:
    """Rendered documents, found by kind and name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.documents: list[dict[str, Any]] = list(yaml.safe_load_all(text))

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        """The only document of a kind, or the one of that name."""
        found = [
            document
            for document in self.documents
            if document["kind"] == kind and name in ("", document["metadata"]["name"])
        ]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    @property
    def pod(self) -> dict[str, Any]:
        """The pod template's spec."""
        spec: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        """The only container."""
        (container,) = self.pod["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def pod_labels(self) -> dict[str, str]:
        """Labels of the pods."""
        labels: dict[str, str] = self.one("Deployment")["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def settings(self) -> dict[str, str]:
        """The service's environment."""
        (source,) = self.container["envFrom"]
        data: dict[str, str] = self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        return data
