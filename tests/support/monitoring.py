"""The monitoring component as a cluster gets it, and what its PromQL asks for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.manifests import Manifests
from support.prometheus import ScrapeTarget

_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "and", "or", "unless"}


@dataclass(frozen=True)
class Query:
    """One target of a panel."""

    dashboard: str
    panel: str
    expr: str


def groups_of(manifests: Manifests) -> list[dict[str, Any]]:
    """The rule groups of the manifest: what promtool and Prometheus get is this and nothing else."""
    groups: list[dict[str, Any]] = manifests.one("PrometheusRule")["spec"]["groups"]
    return groups


def rules_of(manifests: Manifests, kind: str) -> dict[str, dict[str, Any]]:
    """``alert`` or ``record`` rules by name."""
    found = [rule for group in groups_of(manifests) for rule in group["rules"] if kind in rule]
    rules = {rule[kind]: rule for rule in found}
    assert len(rules) == len(found), "a name twice"
    return rules


def write_rules(manifests: Manifests, folder: Path) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups_of(manifests)}))
    return path


def dashboards_of(manifests: Manifests) -> dict[str, dict[str, Any]]:
    """Dashboards by file name."""
    data = manifests.one("ConfigMap", "humanseg-dashboards")["data"]
    return {name: json.loads(text) for name, text in data.items()}


def queries_of(manifests: Manifests) -> Iterator[Query]:
    for name, dashboard in dashboards_of(manifests).items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield Query(name, panel["title"], target["expr"])


def filled_in(query: Query, manifests: Manifests, namespace: str, rate_interval: str) -> str:
    """Its expression as Grafana sends it: one namespace, and everything else at All."""
    expr = query.expr.replace("$__rate_interval", rate_interval).replace("$namespace", namespace)
    for variable in dashboards_of(manifests)[query.dashboard]["templating"]["list"]:
        if "allValue" in variable:
            expr = expr.replace(f"${variable['name']}", variable["allValue"])
    assert "$" not in expr, expr
    return expr


def scrape_target(manifests: Manifests, pod: str, port: int) -> ScrapeTarget:
    """A server on this machine as the operator's Prometheus would see it in a pod of that name."""
    monitor = manifests.one("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    labels = {
        "job": manifests.pod_labels[monitor["spec"]["jobLabel"]],
        "namespace": monitor["metadata"]["namespace"],
        "pod": pod,
        "container": manifests.container["name"],
        "endpoint": endpoint["port"],
    }
    return ScrapeTarget(port, labels, endpoint["path"])


def selectors(expr: str) -> set[tuple[str, str]]:
    """(name, matchers in braces or empty) of every series that an expression asks for."""
    blank = re.sub(r'"[^"]*"', lambda match: "#" * len(match.group()), expr)
    for part in (r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", r"\[[^\]]*\]"):
        blank = re.sub(part, lambda match: " " * len(match.group()), blank)
    found = set()
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?", blank):
        name, matchers, is_call = match.groups()
        if not is_call and name not in _WORDS:
            found.add((name, expr[match.start(2) : match.end(2)] if matchers else ""))
    return found


def matched_values(matchers: str) -> Iterator[tuple[str, str]]:
    """(label, value) of matchers; the alternatives of a regular expression one by one, variables left out."""
    for label, value in re.findall(r'(\w+)\s*(?:=~|=|!=|!~)\s*"([^"]*)"', matchers):
        for alternative in value.split("|"):
            if "$" not in alternative:
                yield label, alternative
