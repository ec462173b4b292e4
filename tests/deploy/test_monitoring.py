"""The monitoring component without a Prometheus: it renders, its names are right, its alerts have a page."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from humanseg.v1 import segmentation_pb2 as pb
from service.call_errors import Reason
from service.server import ANSWER_GRACE_S, STOP_GRACE_S
from service.settings import load_settings
from service.stages import STAGES
from service.stream_protocol import DropReason
from support.manifests import ROOT, Manifests, render_with
from support.models import write_faulty_model
from support.monitoring import (
    dashboards_of,
    matched_values,
    queries_of,
    rules_of,
    selectors,
)
from support.server import running_server, sample_names
from support.stream import open_stream, red_gradient

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALERT_TESTS = sorted((ROOT / "tests" / "deploy" / "alerts").glob("*.yaml"))
#: What Prometheus itself makes.
SYNTHETIC = {"up", "ALERTS"}
SECONDS = {"s": 1, "m": 60, "h": 3600}


@pytest.fixture(scope="module")
def monitored() -> Manifests:
    return Manifests(render_with("cpu", "monitoring"))


def expressions(monitored: Manifests) -> list[str]:
    rules = [rule for kind in ("alert", "record") for rule in rules_of(monitored, kind).values()]
    return [rule["expr"] for rule in rules] + [query.expr for query in queries_of(monitored)]


def test_the_selectors_of_an_expression_are_found() -> None:
    expr = 'sum by (le) (rate(a_bucket{x="by (b)",y=~"c|d"}[5m]) or e:f) / on (g) h > 0.5 and time() - i{j="}"}'
    names = {("a_bucket", '{x="by (b)",y=~"c|d"}'), ("e:f", ""), ("h", ""), ("i", '{j="}"}')}
    assert selectors(expr) == names
    assert list(matched_values('{x="b",y=~"c|d",pod=~"$pod"}')) == [("x", "b"), ("y", "c"), ("y", "d")]


def test_the_pods_of_the_deployment_are_scraped_where_their_metrics_are(monitored: Manifests) -> None:
    monitor = monitored.one("PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= monitored.pod_labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in monitored.container["ports"]}
    assert monitored.pod_labels[monitor["jobLabel"]] == "humanseg", "the rules select the job by it"
    namespace = monitored.one("Namespace")["metadata"]["name"]
    for kind in ("PodMonitor", "PrometheusRule"):
        assert monitored.one(kind)["metadata"]["namespace"] == namespace


def test_every_alert_says_how_bad_for_how_long_what_and_where_to_read_on(monitored: Manifests) -> None:
    headings = re.findall(r"^### (Humanseg\w+)$", OPERATIONS, re.MULTILINE)
    alerts = rules_of(monitored, "alert")
    assert sorted(headings) == sorted(alerts), "one section an alert"
    for name, alert in alerts.items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert re.fullmatch(r"\d+[smh]", alert["for"]), name
        assert "$value" in alert["annotations"]["summary"], name
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_the_runbooks_say_the_severity_of_their_alert(monitored: Manifests) -> None:
    sections = dict(re.findall(r"^### (Humanseg\w+)\n\n(.*?)(?=^##|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL))
    for name, alert in rules_of(monitored, "alert").items():
        assert sections[name].startswith(f"*{alert['labels']['severity']}*"), name


def test_a_drain_is_no_lost_engine(monitored: Manifests) -> None:
    number, unit = re.fullmatch(r"(\d+)([smh])", rules_of(monitored, "alert")["HumansegEngineLost"]["for"]).groups()  # type: ignore[union-attr]
    drain_s = load_settings([], monitored.settings).drain_s
    assert int(number) * SECONDS[unit] > drain_s + ANSWER_GRACE_S + STOP_GRACE_S
    assert int(number) * SECONDS[unit] > monitored.pod["terminationGracePeriodSeconds"]


def test_every_alert_is_tried_to_fire_and_to_be_silent(monitored: Manifests) -> None:
    """The tests themselves are run by promtool: test_monitoring_rules.py."""
    fires, silent = set(), set()
    for path in ALERT_TESTS:
        for one in yaml.safe_load(path.read_text())["tests"]:
            for case in one.get("alert_rule_test", ()):
                (fires if case.get("exp_alerts") else silent).add(case["alertname"])
    assert fires == silent == set(rules_of(monitored, "alert"))


async def test_every_metric_that_is_asked_for_is_in_a_live_page(monitored: Manifests, tmp_path: Path) -> None:
    write_faulty_model(tmp_path / "medium.onnx", name="medium")
    flags = ("--workers", "2", "--runners", "2")
    with running_server(tmp_path, *flags) as server:
        async with open_stream(server.target) as stream:
            await stream.config(width=160, height=96, pixel_format=pb.PIXEL_FORMAT_RGB24, resume_token=b"none")
            await stream.send(1, np.zeros_like(red_gradient(160, 96)).tobytes())
            await stream.finish()
        exported = sample_names(server)
    recorded = set(rules_of(monitored, "record"))
    asked = {name for expr in expressions(monitored) for name, _ in selectors(expr)}
    assert len(asked) > 40
    # These begin with their first event, or with a setting; docs/operations.md and its test have their names.
    later = {"humanseg_stills_total", "humanseg_sessions_refused_total", "humanseg_sessions_degraded",
             "humanseg_degrade_steps_total", "humanseg_trace_spans_total", "humanseg_file_refused"}  # fmt: skip
    assert asked - SYNTHETIC - recorded - later <= exported
    assert not later & exported, "no longer needed in the list of those that begin later"


def test_the_values_that_are_matched_exist(monitored: Manifests) -> None:
    """A misspelt reason would make an alert that is silent for ever."""
    drops, reasons = ({one.name.lower() for one in kind} for kind in (DropReason, Reason))
    known = {
        "stage": set(STAGES), "reason": drops | reasons, "outcome": reasons | {"mask", "estimate", "dropped"},
        "job": {"humanseg"}, "le": {"0.0333", "0.0167"}, "alertname": {"Humanseg.*"}, "alertstate": {"firing"},
    }  # fmt: skip
    for expr in expressions(monitored):
        for name, matchers in selectors(expr):
            for label, value in matched_values(matchers):
                allowed = known[label] if name != "humanseg_trace_spans_total" else {"dropped"}
                assert value in allowed, (name, label, value)


def test_grafana_finds_the_dashboards_and_kubectl_can_apply_them(monitored: Manifests) -> None:
    config_map = monitored.one("ConfigMap", "humanseg-dashboards")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    # kubectl apply keeps the whole object in an annotation of at most 256 KiB.
    assert sum(len(text.encode()) for text in config_map["data"].values()) < 200_000


def test_the_dashboards_are_for_any_datasource_namespace_and_pod(monitored: Manifests) -> None:
    dashboards = dashboards_of(monitored)
    assert len(dashboards) == 3
    for name, dashboard in dashboards.items():
        assert name == f"{dashboard['uid']}.json"
        variables = {one["name"] for one in dashboard["templating"]["list"]}
        assert {"datasource", "namespace", "pod"} <= variables
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                assert target["datasource"]["uid"] == "${datasource}"
                expr = target["expr"]
                assert 'namespace="$namespace"' in expr, (panel["title"], expr)
                assert set(re.findall(r"\$(\w+)", expr)) <= variables | {"__rate_interval"}
                assert set(re.findall(r"\[([^\]]+)\]", expr)) <= {"$__rate_interval"}
        places = [panel["gridPos"] for panel in dashboard["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(cells) == len(set(cells)), "two panels in one place"
    assert len({dashboard["uid"] for dashboard in dashboards.values()}) == 3
