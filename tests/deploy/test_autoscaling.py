"""Autoscalers by the service's own figures: every name is one that a server shows, whoever asks for it."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from service.metrics import ServiceMetrics
from service.settings import Settings
from service.stream_protocol import DropReason
from support.autoscaling import adapter_rules, keda_triggers
from support.manifests import Manifests, render_with
from support.server import RunningServer, running_server
from support.timing import limit_s


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder) as running:
        yield running


def queries() -> list[str]:
    return [*(rule.template for rule in adapter_rules()), *(one["query"] for one in keda_triggers().values())]


def test_every_series_asked_for_is_one_that_a_server_shows(server: RunningServer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=limit_s(10)) as answer:
        page = answer.read().decode()
    for query in queries():
        names = set(re.findall(r"\bhumanseg_\w+", query))
        assert names
        for name in names:
            assert re.search(rf"^{name}[ {{]", page, re.MULTILINE), name
    for rule in adapter_rules():
        assert re.search(rf"^{re.match('[a-z_]+', rule.series)[0]}[ {{]", page, re.MULTILINE)


def test_every_label_value_asked_for_exists() -> None:
    reasons = {reason.name.lower() for reason in DropReason} | {""}
    for query in queries():
        for text in re.findall(r'reason=~"([^"]*)"', query):
            assert set(text.split("|")) <= reasons
        for outcome in re.findall(r'outcome="([^"]*)"', query):
            assert f'outcome="{outcome}"' in generate_latest(ServiceMetrics().registry).decode()


def test_the_autoscaler_names_what_the_adapter_makes() -> None:
    scaler = Manifests(render_with("cpu", "prometheus-adapter")).one("HorizontalPodAutoscaler")["spec"]
    made = {rule.name for rule in adapter_rules()}
    asked = {metric["pods"]["metric"]["name"]: metric["pods"]["target"]["averageValue"] for metric in scaler["metrics"]}
    assert asked.keys() == made
    load = int(asked["humanseg_live_load_ratio"].removesuffix("m")) / 1000
    assert load < Settings().admission_load, "pods come before streams are refused"
    keda = keda_triggers()
    thresholds = [float(keda[name]["threshold"]) for name in ("sessions", "live-load", "off-time")]
    names = ("humanseg_sessions_ratio", "humanseg_live_load_ratio", "humanseg_off_time_ratio")
    assert thresholds == [int(asked[name].removesuffix("m")) / 1000 for name in names]


def test_keda_is_the_only_autoscaler_and_as_careful_as_the_base_s() -> None:
    keda = Manifests(render_with("cpu", "keda"))
    assert "HorizontalPodAutoscaler" not in [one["kind"] for one in keda.documents]
    spec, base = keda.one("ScaledObject")["spec"], Manifests(render_with("cpu")).one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == keda.one("Deployment")["metadata"]["name"]
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == base["behavior"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (base["minReplicas"], base["maxReplicas"])


def test_keda_counts_the_pods_of_its_deployment_alone() -> None:
    for metadata in keda_triggers().values():
        (pattern,) = set(re.findall(r'pod=~"([^"]+)"', metadata["query"]))
        assert re.fullmatch(pattern, "humanseg-6d4cf56db6-x7k2p")
        assert not re.fullmatch(pattern, "humanseg-canary-6d4cf56db6-x7k2p")
