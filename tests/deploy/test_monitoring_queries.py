"""Dashboards and rules answered by a real Prometheus that scrapes real servers under load: `make monitoring-check`."""

import asyncio
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.proto", reason="OpenTelemetry's OTLP exporter is not installed (humanseg[otel])")


import humanseg
from service.metrics import STAGE_EDGES_S
from service.settings import Settings
from service.stages import STAGES
from support.autoscaling import adapter_rules, keda_triggers
from support.collector import running_collector
from support.manifests import Manifests, render_with
from support.mixed_load import MixedLoad, per_second, send_mixed_load, write_tokens
from support.monitoring import (
    dashboards_of,
    filled_in,
    queries_of,
    rules_of,
    scrape_target,
    write_rules,
)
from support.prometheus import RunningPrometheus, Sample, running_prometheus, why_no_prometheus
from support.server import RunningServer, running_server

pytestmark = pytest.mark.skipif(why_no_prometheus() is not None, reason=str(why_no_prometheus()))

NAMESPACE = "humanseg"
#: One process, and a supervisor with two workers: what their pages have in common is what the queries may lean on.
ONE, WORKERS = "humanseg-6d4cf56db6-x7k2p", "humanseg-6d4cf56db6-b9q4w"
PODS, PROCESSES = {ONE, WORKERS}, 3
LOAD_S = 9.0
RATE_INTERVAL_S = 4
FIVE_MINUTES_S = 300
#: Panels without a figure while all is well, and why.
EMPTY_IN_HEALTH = {
    "Degraded streams": "the load here overloads nobody, so no stream was ever degraded",
}
#: What a slow test machine may look like; nothing of it lasts long enough to fire.
OF_A_SLOW_MACHINE = {"HumansegOnTimeBudgetBurnsFast", "HumansegOnTimeBudgetBurnsSlowly", "HumansegEventLoopLag"}


@dataclass(frozen=True)
class Observed:
    """What was sent, and who saw it."""

    monitored: Manifests
    prometheus: RunningPrometheus
    servers: tuple[RunningServer, RunningServer]
    load: MixedLoad

    def ask(self, expr: str) -> list[Sample]:
        """The answer as it was when the load ended."""
        return self.prometheus.query(expr, self.load.end_s)

    def panel(self, title: str, containing: str = "") -> list[Sample]:
        """The answer to the only target of that panel, or to the only one with a text in it."""
        targets = {query for query in queries_of(self.monitored) if query.panel == title and containing in query.expr}
        (query,) = targets
        return self.ask(filled_in(query, self.monitored, NAMESPACE, f"{RATE_INTERVAL_S}s"))

    def number(self, title: str, containing: str = "") -> float:
        """The same where the answer is one figure."""
        (sample,) = self.panel(title, containing)
        return sample.value


@pytest.fixture(scope="module")
def observed(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    monitored = Manifests(render_with("cpu", "monitoring"))
    folder = tmp_path_factory.mktemp("prometheus")
    rules = write_rules(monitored, folder)
    tokens = ("--auth-tokens-file", str(write_tokens(folder / "tokens")))
    with running_collector() as collector:
        flags = (*tokens, "--trace-endpoint", collector.endpoint, "--trace-ratio", "1")
        with (
            running_server(models_folder, *flags) as one,
            running_server(models_folder, *flags, "--workers", "2") as two,
        ):
            targets = [
                scrape_target(monitored, pod, server.metrics_port) for pod, server in ((ONE, one), (WORKERS, two))
            ]
            with running_prometheus(folder, rules, targets) as prometheus:
                prometheus.wait_for(PROCESSES, "sum(humanseg_ready)")
                load = asyncio.run(send_mixed_load([one.target, two.target], LOAD_S))
                yield Observed(monitored, prometheus, (one, two), load)


def test_every_rule_is_evaluated_and_every_recorded_series_is_there(observed: Observed) -> None:
    rules = observed.prometheus.rules()
    assert {rule["name"] for rule in rules} == {
        name for kind in ("record", "alert") for name in rules_of(observed.monitored, kind)
    }
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    for name in rules_of(observed.monitored, "record"):
        (sample,) = observed.ask(name)
        assert sample.labels == {"__name__": name, "namespace": NAMESPACE}
        assert math.isfinite(sample.value), name


def test_no_alert_fires_in_health(observed: Observed) -> None:
    seen = {(one.labels["alertname"], one.labels["alertstate"]) for one in observed.ask("ALERTS")}
    assert seen <= {(name, "pending") for name in OF_A_SLOW_MACHINE}


def test_every_query_of_the_dashboards_has_an_answer(observed: Observed) -> None:
    wrong, empty = {}, set()
    for query in queries_of(observed.monitored):
        expr = filled_in(query, observed.monitored, NAMESPACE, f"{RATE_INTERVAL_S}s")
        answer = observed.ask(expr)
        if query.panel in EMPTY_IN_HEALTH and not answer:
            empty.add(query.panel)
        elif not answer or not all(math.isfinite(one.value) and one.value >= 0 for one in answer):
            wrong[query.panel, expr] = answer
        elif expr.startswith("sum by (pod)") and "humanseg_worker" not in expr:
            assert {one.labels["pod"] for one in answer} == PODS, expr
    assert wrong == {}
    assert empty == EMPTY_IN_HEALTH.keys(), "no longer empty: strike it from the list"


def test_the_variables_of_the_dashboards_offer_what_there_is(observed: Observed) -> None:
    offered = {"namespace": {NAMESPACE}, "pod": PODS, "model": {"medium"}}
    for dashboard in dashboards_of(observed.monitored).values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
                answer = observed.ask(f"group by ({label}) ({series.replace('$namespace', NAMESPACE)})")
                assert {one.labels[label] for one in answer} == offered[variable["name"]]


def test_the_figures_of_the_streams_are_those_that_were_opened(observed: Observed) -> None:
    load = observed.load
    assert observed.number("Servers that take streams") == PROCESSES
    streams = sum(one.value for one in observed.panel("Streams", "sum by (pod) (humanseg_sessions_active"))
    assert streams == load.long_streams
    limit = observed.number("Streams", 'sum(humanseg_sessions_limit{namespace="$namespace",pod=~"$pod"})')
    assert limit == len(PODS) * Settings().max_sessions
    assert observed.number("Room for") == limit - load.long_streams
    assert observed.number("Alerts firing") == 0
    (release,) = observed.panel("Releases")
    assert (release.labels, release.value) == ({"version": humanseg.__version__}, PROCESSES)
    for name, expected in (
        ("humanseg_sessions_admitted_total", load.admitted),
        ('humanseg_sessions_refused_total{reason="unauthenticated"}', load.refused),
        ("humanseg_stills_total", load.stills),
    ):
        assert sum(one.value for one in observed.ask(name)) == expected, name


def test_the_figures_of_the_frames_are_those_that_were_sent(observed: Observed) -> None:
    load = observed.load
    rates = {
        (one.labels["outcome"], one.labels.get("reason", "")): one.value
        for one in observed.panel("Frames by what became of them")
    }
    assert rates.keys() == {("mask", ""), ("estimate", ""), ("dropped", "wrong_byte_count"), ("dropped", "superseded")}
    answered, broken = (per_second(of, load.end_s, RATE_INTERVAL_S) for of in (load.answers_s, load.broken_s))
    assert sum(rates.values()) == pytest.approx(answered, rel=0.2)
    assert rates["dropped", "wrong_byte_count"] == pytest.approx(broken, rel=0.35), "few, so coarse"
    without = {one.labels["reason"]: one.value for one in observed.panel("Frames without a mask")}
    assert without == {reason: rate for (outcome, reason), rate in rates.items() if outcome == "dropped"}


def test_the_share_on_time_is_that_of_the_servers_own_pages(observed: Observed) -> None:
    def total(name: str, **labels: str) -> float:
        return sum(server.metric(name, **labels) for server in observed.servers)

    superseded = total("humanseg_frames_total", reason="superseded")
    on_time = total("humanseg_live_frame_seconds_bucket", le="0.0333")
    live = total("humanseg_live_frame_seconds_count") + superseded
    of_all = on_time / live
    assert superseded > 0, "they count as not on time"
    assert 0 < of_all < 1
    (frames_a_s,) = observed.ask("namespace:humanseg_live_frames:rate5m")
    assert frames_a_s.value == pytest.approx(live / FIVE_MINUTES_S, rel=0.2)
    assert observed.number("On time (33.3 ms), 5 minutes") == pytest.approx(of_all, abs=0.1)
    within = {le: observed.number("Live frames on time", f'le="{le}"') for le in ("0.0167", "0.0333")}
    assert 0 <= within["0.0167"] <= within["0.0333"] < 1
    assert within["0.0333"] == pytest.approx(of_all, abs=0.2), "four seconds of nine"


def test_the_quantiles_are_in_order_and_within_the_edges(observed: Observed) -> None:
    titles = {query.panel for query in queries_of(observed.monitored) if "histogram_quantile(0.5," in query.expr}
    assert len(titles) == 6
    for title in titles:
        p50, p90, p99 = (observed.number(title, f"histogram_quantile({share},") for share in ("0.5", "0.9", "0.99"))
        assert 0 < p50 <= p90 <= p99 <= STAGE_EDGES_S[-1], title


def test_the_figures_of_stages_and_engine_are_plausible(observed: Observed) -> None:
    (engine,) = observed.panel("Engines")
    assert (engine.labels["model"], engine.labels["engine"]) == ("medium", "onnxruntime-cpu")
    assert engine.value == PROCESSES
    for title in ("Mean time of a stage", "p99 of a stage"):
        assert {one.labels["stage"] for one in observed.panel(title)} == set(STAGES) - {"total"}
    masks = next(
        one.value for one in observed.panel("Frames by what became of them") if one.labels["outcome"] == "mask"
    )
    frames_in_a_run = observed.number("Frames in a run of the engine", "_sum")
    assert 1 <= frames_in_a_run <= Settings().max_batch
    inferred = observed.number("Runs of the engine") * frames_in_a_run
    assert masks * 0.8 < inferred < masks * 1.2 + len(observed.load.answers_s) / LOAD_S * 0.2, "stills come on top"


def test_the_figures_of_the_resources_are_plausible(observed: Observed) -> None:
    cpus = os.cpu_count() or 1
    used = {one.labels["pod"]: one.value for one in observed.panel("CPU")}
    assert all(0 < one < cpus * 1.2 for one in used.values())
    memory = {one.labels["pod"]: one.value for one in observed.panel("Memory", "sum by (pod)")}
    limit = observed.number("Memory", "max(humanseg_memory_limit_bytes")
    assert all(20 << 20 < one < limit for one in memory.values())
    shares = {one.labels["pod"]: one.value for one in observed.panel("Memory, share of the limit")}
    assert shares == pytest.approx({pod: one / limit for pod, one in memory.items()})
    most = observed.number("Open files", "process_max_fds")
    assert all(0 < one.value < most for one in observed.panel("Open files", "process_open_fds"))
    for name in ("humanseg_workers{", "humanseg_workers_ready{", "humanseg_worker_up{"):
        (sample,) = observed.panel("Workers", name)
        assert (sample.labels, sample.value) == ({"pod": WORKERS}, 2), name
    spans = {one.labels["outcome"]: one.value for one in observed.panel("Spans")}
    assert spans.pop("sent") > 0
    assert all(lost == 0 for lost in spans.values())
    refused = observed.panel("Files of secrets that are refused")
    assert {one.labels["file"] for one in refused} >= {"auth_tokens"}
    assert all(one.value == 0 for one in refused)


def test_the_autoscalers_see_each_pod_s_sessions_load_and_frames_out_of_time(observed: Observed) -> None:
    seen = {}
    for rule in adapter_rules():
        assert {one.labels["pod"] for one in observed.ask(rule.series)} == PODS, "what the adapter finds pods by"
        answer = observed.ask(rule.query(NAMESPACE, PODS))
        seen[rule.name] = {one.labels["pod"]: one.value for one in answer}
        assert seen[rule.name].keys() == PODS
        assert all(one.labels.keys() == {"pod"} for one in answer)
    streams = observed.load.long_streams / len(PODS)
    assert set(seen["humanseg_sessions_ratio"].values()) == {streams / Settings().max_sessions}
    assert all(0 < load < 1 for load in seen["humanseg_live_load_ratio"].values())
    for pod, server in zip((ONE, WORKERS), observed.servers, strict=True):
        superseded = server.metric("humanseg_frames_total", reason="superseded")
        of_all = superseded / (superseded + server.metric("humanseg_frames_total", outcome="mask"))
        assert seen["humanseg_off_time_ratio"][pod] == pytest.approx(of_all, abs=0.1)
    assert all(ratio > 0 for ratio in seen["humanseg_off_time_ratio"].values())
    made = ("humanseg_sessions_ratio", "humanseg_live_load_ratio", "humanseg_off_time_ratio")
    for name, trigger in zip(made, ("sessions", "live-load", "off-time"), strict=True):
        (sample,) = observed.ask(keda_triggers()[trigger]["query"])
        assert sample.labels == {}, "KEDA takes one figure, for all pods"
        assert sample.value == pytest.approx(sum(seen[name].values())), "and divides it by the threshold"
