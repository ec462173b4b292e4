"""What autoscalers by the service's own figures ask Prometheus for."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from support.manifests import ROOT, Manifests, render_with

_RULES = ROOT / "deploy" / "k8s" / "components" / "prometheus-adapter" / "adapter_rules.yaml"


@dataclass(frozen=True)
class AdapterRule:
    """A rule of prometheus-adapter."""

    name: str
    series: str
    template: str

    def query(self, namespace: str, pods: set[str]) -> str:
        """As the adapter asks for the figures of these pods."""
        matchers = f'namespace="{namespace}",pod=~"{"|".join(sorted(pods))}"'
        return self.template.replace("<<.LabelMatchers>>", matchers).replace("<<.GroupBy>>", "pod")


def adapter_rules() -> list[AdapterRule]:
    rules: list[dict[str, Any]] = yaml.safe_load(_RULES.read_text())["rules"]
    return [
        AdapterRule(
            rule["name"]["as"] if "name" in rule else re.findall("^[a-z_]+", rule["seriesQuery"])[0],
            rule["seriesQuery"],
            rule["metricsQuery"],
        )
        for rule in rules
    ]


def keda_triggers() -> dict[str, dict[str, str]]:
    """Metadata of KEDA's triggers by their names."""
    spec = Manifests(render_with("cpu", "keda")).one("ScaledObject")["spec"]
    return {one["name"]: one["metadata"] for one in spec["triggers"]}
