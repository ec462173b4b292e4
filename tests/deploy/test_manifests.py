"""The Kubernetes manifests: valid by the schemas, and right about the service that they start."""

import subprocess
from pathlib import Path

import pytest

import humanseg
from service.server import ANSWER_GRACE_S, SERVICE_NAME, STOP_GRACE_S
from service.settings import Settings, load_settings
from support.manifests import BIN, ROOT, Manifests, render
from support.timing import limit_s

#: What the process needs to end after its last call: engines that finish a batch.
END_MARGIN_S = 5.0
#: What a stream of 1080p RGB24 was seen to cost (docs/operations.md: 16 of them 1840 MiB), and Python with its models.
STREAM_MIB, REST_MIB = 115, 300


def schema_complaints(path: Path) -> list[str]:
    """Lines of the strict validator that are not a plain "passed"; an unknown kind is only a WARN there."""
    command = [BIN / "kubernetes-validate", "--strict", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s(60), check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, "the validator said nothing"
    return [line for line in lines if not (line.startswith("INFO") and " passed " in line)]


@pytest.mark.parametrize("folder", ["base", "overlays/cpu"])
def test_the_manifests_are_valid_by_the_strict_schemas(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "rendered.yaml"
    path.write_text(render(folder))
    assert schema_complaints(path) == []


@pytest.mark.parametrize(
    ("right", "wrong"), [("minReadySeconds:", "minReadySecond:"), ("kind: NetworkPolicy", "kind: NetworkPolicies")]
)
def test_the_validator_finds_a_slip(right: str, wrong: str, cpu: Manifests, tmp_path: Path) -> None:
    assert cpu.text.count(right) == 1
    path = tmp_path / "slip.yaml"
    path.write_text(cpu.text.replace(right, wrong))
    assert schema_complaints(path)


def test_the_pods_run_without_privileges_on_a_read_only_root(cpu: Manifests) -> None:
    pod, container = cpu.pod["securityContext"], cpu.container["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] >= 10_000
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["readOnlyRootFilesystem"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert "hostNetwork" not in cpu.pod
    assert "volumes" not in cpu.pod, "nothing is written anywhere, so nothing is mounted"
    assert cpu.pod["automountServiceAccountToken"] is False
    assert cpu.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_user_is_the_one_of_the_image(cpu: Manifests) -> None:
    context = cpu.pod["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in (ROOT / "Dockerfile").read_text()


def test_every_variable_is_a_setting_that_the_service_loads(cpu: Manifests) -> None:
    settings = load_settings(cpu.container["args"], cpu.settings)
    assert settings.log_format == "json"
    assert settings.host == "0.0.0.0", "a pod is reached from outside of itself"
    assert cpu.container["envFrom"] == [{"configMapRef": {"name": cpu.one("ConfigMap")["metadata"]["name"]}}]
    # Links would add HUMANSEG_PORT=tcp://... for the Service of that name, which the service refuses.
    assert cpu.pod["enableServiceLinks"] is False


def test_ports_are_the_same_all_the_way(cpu: Manifests) -> None:
    settings = load_settings(cpu.container["args"], cpu.settings)
    ports = {port["name"]: port["containerPort"] for port in cpu.container["ports"]}
    assert ports == {"grpc": settings.port, "metrics": settings.metrics_port}
    for name in ("humanseg", "humanseg-headless"):
        spec = cpu.one("Service", name)["spec"]
        assert spec["selector"].items() <= cpu.pod_labels.items()
        assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(settings.port, "grpc")]
    annotations = cpu.one("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.metrics_port)
    exposed = f"EXPOSE {Settings().port} {Settings().metrics_port}"
    assert exposed in (ROOT / "Dockerfile").read_text()
    assert (settings.port, settings.metrics_port) == (Settings().port, Settings().metrics_port)


def test_clients_that_balance_themselves_get_the_pods_and_others_one_address(cpu: Manifests) -> None:
    assert cpu.one("Service", "humanseg-headless")["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in cpu.one("Service", "humanseg")["spec"]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_for_the_health_over_grpc(probe: str, cpu: Manifests) -> None:
    settings = load_settings(cpu.container["args"], cpu.settings)
    asked = cpu.container[probe]["grpc"]
    assert asked["port"] == settings.port
    assert asked.get("service", "") in ("", SERVICE_NAME), "the names whose health the service tells"


def test_a_pod_that_drains_is_not_restarted_by_its_liveness_probe(cpu: Manifests) -> None:
    liveness = cpu.container["livenessProbe"]
    drain_s = load_settings([], cpu.settings).drain_s
    assert (
        liveness["failureThreshold"] * liveness["periodSeconds"]
        > drain_s + ANSWER_GRACE_S + STOP_GRACE_S + END_MARGIN_S
    )


def test_the_grace_period_covers_the_whole_way_out(cpu: Manifests) -> None:
    pre_stop_s = cpu.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = load_settings([], cpu.settings).drain_s
    needed_s = pre_stop_s + drain_s + ANSWER_GRACE_S + STOP_GRACE_S + END_MARGIN_S
    assert cpu.pod["terminationGracePeriodSeconds"] >= needed_s
    readiness = cpu.container["readinessProbe"]
    assert pre_stop_s > 0
    assert readiness["periodSeconds"] <= drain_s, "a pod that drains is seen as not ready while it still serves"


def test_rollouts_and_node_drains_keep_capacity(cpu: Manifests) -> None:
    deployment = cpu.one("Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["minReadySeconds"] > 0
    budget = cpu.one("PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= cpu.pod_labels.items()
    assert budget["maxUnavailable"] < cpu.one("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    for constraint in cpu.pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= cpu.pod_labels.items()


def test_the_autoscaler_acts_before_admission_refuses_and_moves_streams_slowly(cpu: Manifests) -> None:
    deployment, scaler = cpu.one("Deployment"), cpu.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "humanseg"}
    assert "replicas" not in deployment["spec"], "each apply would undo what the autoscaler did"
    (metric,) = scaler["metrics"]
    measured = metric["containerResource"]
    assert (measured["name"], measured["container"]) == ("cpu", cpu.container["name"])
    assert "cpu" in cpu.container["resources"]["requests"], "utilization is a share of what is requested"
    settings = load_settings([], cpu.settings)
    assert measured["target"]["averageUtilization"] < 100 * settings.admission_load
    down = scaler["behavior"]["scaleDown"]
    assert [policy["value"] for policy in down["policies"]] == [1]
    assert all(policy["periodSeconds"] > settings.drain_s + ANSWER_GRACE_S for policy in down["policies"])


def test_the_network_policy_lets_in_grpc_and_metrics_and_nothing_out(cpu: Manifests) -> None:
    policy = cpu.one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= cpu.pod_labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    allowed = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert allowed == {port["name"] for port in cpu.container["ports"]}


def test_resources_fit_the_settings(cpu: Manifests) -> None:
    settings = load_settings([], cpu.settings)
    resources = cpu.container["resources"]
    assert int(resources["requests"]["cpu"]) == settings.runners, "one engine thread a CPU"
    assert "cpu" not in resources["limits"], "throttling would be latency"
    assert resources["limits"]["memory"].endswith("Gi")
    limit_bytes = int(resources["limits"]["memory"].removesuffix("Gi")) * 2**30
    assert settings.max_sessions * STREAM_MIB + REST_MIB <= limit_bytes / 2**20


def test_the_image_has_one_name_and_the_project_s_version(cpu: Manifests) -> None:
    image = cpu.container["image"]
    assert image == f"humanseg:{humanseg.__version__}"
    for path in ("Dockerfile", "Makefile", "docs/operations.md"):
        assert image in (ROOT / path).read_text(), f"{path} names another image"


def test_everything_lives_in_one_namespace_and_the_account_exists(cpu: Manifests) -> None:
    namespace = cpu.one("Namespace")["metadata"]["name"]
    for document in cpu.documents:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == namespace
    assert cpu.pod["serviceAccountName"] == cpu.one("ServiceAccount")["metadata"]["name"]
