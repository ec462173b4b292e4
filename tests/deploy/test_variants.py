"""Every overlay and component together: valid, restricted, and in agreement with the settings and files they name."""

from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest

from service.server import ANSWER_GRACE_S, SERVICE_NAME, STOP_GRACE_S
from service.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from support.manifests import ROOT, Manifests, render_with

#: Beside the base's own tests: what a user may put together.
VARIANTS = [
    ("cpu",),
    ("gpu",),
    ("triton",),
    ("cpu", "long-streams"),
    ("cpu", "mtls"),
    ("cpu", "cert-manager"),
    ("cpu", "prometheus-adapter"),
    ("cpu", "keda"),
    ("cpu", "canary"),
    ("cpu", "monitoring"),
    ("gpu", "long-streams", "keda", "monitoring"),
    ("gpu", "canary"),
    ("triton", "long-streams", "cert-manager", "prometheus-adapter", "monitoring"),
    ("triton", "canary"),
]
#: No schema of these comes in a package that Python can read: the fields that their controllers demand, at any depth,
#: as paths. The shapes were read in the projects' own definitions.
REQUIRED_OF_OTHERS = {
    ("keda.sh/v1alpha1", "ScaledObject"): [
        "spec.scaleTargetRef.name",
        "spec.triggers.0.type",
        "spec.triggers.0.metadata",
    ],
    ("cert-manager.io/v1", "Certificate"): ["spec.secretName", "spec.issuerRef.name", "spec.dnsNames.0"],
    ("cert-manager.io/v1", "Issuer"): ["spec.ca.secretName"],
    ("monitoring.coreos.com/v1", "PodMonitor"): ["spec.selector", "spec.podMetricsEndpoints.0.port"],
    ("monitoring.coreos.com/v1", "PrometheusRule"): ["spec.groups.0.name", "spec.groups.0.rules.0.expr"],
}
VERSION = kubernetes_validate.latest_version()


@pytest.fixture(params=VARIANTS, ids="+".join)
def variant(request: pytest.FixtureRequest) -> Manifests:
    return Manifests(render_with(*request.param))


def pods(manifests: Manifests) -> list[dict[str, Any]]:
    found = [one for one in manifests.documents if one["kind"] in ("Deployment", "StatefulSet")]
    assert found
    return [one["spec"]["template"]["spec"] for one in found]


def containers(manifests: Manifests) -> list[dict[str, Any]]:
    return [one for pod in pods(manifests) for one in (*pod.get("initContainers", []), *pod["containers"])]


def at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document[int(part)] if part.isdecimal() else document[part]
    return document


def test_every_document_is_valid_at_the_newest_kubernetes(variant: Manifests) -> None:
    for document in variant.documents:
        required = REQUIRED_OF_OTHERS.get((document["apiVersion"], document["kind"]))
        if required is None:
            kubernetes_validate.validate(document, VERSION, strict=True)
        else:
            assert all(at(document, path) for path in required)


def test_the_account_and_the_namespace_are_the_same_everywhere(variant: Manifests) -> None:
    for document in variant.documents:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "humanseg"
    assert {pod["serviceAccountName"] for pod in pods(variant)} == {"humanseg"}


def test_every_container_meets_the_restricted_profile(variant: Manifests) -> None:
    for pod in pods(variant):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        kinds = {next(key for key in volume if key != "name") for volume in pod.get("volumes", [])}
        assert kinds <= {"secret", "emptyDir", "persistentVolumeClaim"}, "hostPath is not allowed there"
    for container in containers(variant):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= container["resources"].keys(), container["name"]


def test_every_variable_is_a_setting_that_the_service_loads(variant: Manifests) -> None:
    assert all(name.startswith(ENVIRONMENT_PREFIX) for name in variant.settings)
    load_settings(variant.container["args"], variant.settings)
    (source,) = variant.container["envFrom"]
    assert source.keys() == {"configMapRef"}
    variant.one("ConfigMap", source["configMapRef"]["name"])


def test_every_file_that_a_setting_names_is_mounted(variant: Manifests) -> None:
    mounts = [PurePosixPath(mount["mountPath"]) for mount in variant.container.get("volumeMounts", [])]
    paths = {ENVIRONMENT_PREFIX + item.name.upper() for item in fields(Settings) if item.type in (Path, Path | None)}
    for name in paths & variant.settings.keys():
        assert any(PurePosixPath(variant.settings[name]).is_relative_to(mount) for mount in mounts), name
    for pod in pods(variant):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        everyone = (*pod.get("initContainers", []), *pod["containers"])
        mounted = {mount["name"] for one in everyone for mount in one.get("volumeMounts", [])}
        assert mounted == volumes


def test_probes_ask_where_the_service_answers(variant: Manifests) -> None:
    settings = load_settings(variant.container["args"], variant.settings)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = variant.container[name]
        if settings.tls_cert_file is None:
            assert "httpGet" not in probe
            assert probe["grpc"]["port"] == settings.port
            assert probe["grpc"].get("service", "") in ("", SERVICE_NAME)
        else:
            assert "grpc" not in probe, "Kubernetes' own gRPC probe speaks no TLS"
            assert probe["httpGet"] == {"path": "/ready", "port": "metrics"}
    drain_s = settings.drain_s + ANSWER_GRACE_S + STOP_GRACE_S
    pre_stop_s = variant.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert variant.pod["terminationGracePeriodSeconds"] > drain_s + pre_stop_s
    liveness = variant.container["livenessProbe"]
    assert liveness["failureThreshold"] * liveness["periodSeconds"] > drain_s


def test_selectors_find_the_pods_they_are_for(variant: Manifests) -> None:
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for one in variant.documents if "template" in one.get("spec", {})
    ]
    for document in variant.documents:
        spec = document.get("spec", {})
        match document["kind"]:
            case "Service":
                selector = spec["selector"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "PodMonitor":
                selector = spec["selector"]["matchLabels"]
            case _:
                continue
        assert sum(selector.items() <= one.items() for one in labels) == 1, document["metadata"]["name"]


def test_the_canary_shares_the_services_and_is_nobody_else_s_pod() -> None:
    stable, canary = Manifests(render_with("cpu")), Manifests(render_with("cpu", "canary"))
    assert sorted(one["kind"] for one in canary.documents) == ["ConfigMap", "Deployment"]
    names = [one.one("Deployment")["metadata"]["name"] for one in (stable, canary)]
    assert names == ["humanseg", "humanseg-canary"]
    for service in ("humanseg", "humanseg-headless"):
        assert stable.one("Service", service)["spec"]["selector"].items() <= canary.pod_labels.items()
    assert not stable.one("Deployment")["spec"]["selector"]["matchLabels"].items() <= canary.pod_labels.items()
    monitor = Manifests(render_with("cpu", "monitoring")).one("PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= canary.pod_labels.items()
    assert canary.one("Deployment")["spec"]["replicas"] == 1
    on_gpu = Manifests(render_with("gpu", "canary"))
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in on_gpu.pod["volumes"] if "emptyDir" not in volume
    ]
    assert claims == [Manifests(render_with("gpu")).one("PersistentVolumeClaim")["metadata"]["name"]]


def test_the_certificate_is_for_the_services_and_in_the_secret_that_is_mounted() -> None:
    manifests = Manifests(render_with("cpu", "cert-manager"))
    certificate = manifests.one("Certificate")["spec"]
    for service in ("humanseg", "humanseg-headless"):
        manifests.one("Service", service)
        assert {f"{service}.humanseg", f"{service}.humanseg.svc"} <= set(certificate["dnsNames"])
    assert certificate["issuerRef"]["name"] == manifests.one("Issuer")["metadata"]["name"]
    (volume,) = manifests.pod["volumes"]
    assert volume["secret"]["secretName"] == certificate["secretName"]


def test_the_components_are_all_tried_here() -> None:
    ours = {path.name for path in (ROOT / "deploy/k8s/components").iterdir()}
    assert ours == {component for variant in VARIANTS for component in variant[1:]}
