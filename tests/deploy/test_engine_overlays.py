"""Overlays gpu and triton: their init containers are commands of ours, and make what the service then looks for."""

from pathlib import Path
from typing import Any

from engines import build, repository
from engines.plan import Flavor, Precision, buckets_for
from engines.registry import ENGINES
from service.settings import Settings, load_settings
from support.manifests import ROOT, Manifests, render_with
from support.models import write_red_model

MODELS = ROOT / "engines" / "models"


def expanded(container: dict[str, Any], variables: dict[str, str]) -> list[str]:
    """Arguments as the kubelet hands them over: $(NAME) is a variable of the container."""
    arguments = []
    for text in container["args"]:
        for name, value in variables.items():
            text = text.replace(f"$({name})", value)
        assert "$(" not in text
        arguments.append(text)
    return arguments


def test_the_engines_that_are_built_are_those_that_the_service_looks_for() -> None:
    gpu = Manifests(render_with("gpu"))
    settings = load_settings([], gpu.settings)
    assert ENGINES[settings.engine].takes_plans
    built = []
    for container in gpu.pod["initContainers"]:
        assert container["command"] == ["python", "-m", "engines.build"]
        assert container["envFrom"] == gpu.container["envFrom"]
        assert container["image"] == gpu.container["image"]
        options = build._parser().parse_args(expanded(container, gpu.settings))
        built.append(options.model)
        assert options.cache == settings.plans
        assert options.max_batch == buckets_for(settings.max_batch)
        assert (settings.engine, options.flavor, options.precision) == ("tensorrt", Flavor.TENSORRT, Precision.FP16)
        assert options.models == settings.models == Settings().models
    assert sorted(built) == sorted(path.stem for path in MODELS.glob("*.onnx")), "every model served needs an engine"


def test_the_cache_belongs_to_the_kind_of_node() -> None:
    gpu = Manifests(render_with("gpu"))
    node = gpu.pod["nodeSelector"]["nvidia.com/gpu.product"]
    assert Path(gpu.settings["HUMANSEG_PLANS"]).name == node
    for container in (*gpu.pod["initContainers"], gpu.container):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    (mount,) = [one for one in gpu.container["volumeMounts"] if one["name"] == "plans"]
    assert mount["readOnly"], "the service writes no engine"


def test_the_repository_that_triton_gets_is_one_that_the_service_takes(tmp_path: Path) -> None:
    triton = Manifests(render_with("triton"))
    pod = triton.one("StatefulSet")["spec"]["template"]["spec"]
    (writer,), (server,) = pod["initContainers"], pod["containers"]
    assert writer["command"] == ["python", "-m", "engines.repository"]
    assert writer["image"] == triton.container["image"], "both have the same model files"
    arguments = expanded(writer, {})
    options = repository._parser().parse_args(arguments)
    settings = load_settings([], triton.settings)
    assert options.max_batch >= settings.max_batch
    assert options.models == settings.models
    assert f"--model-repository={options.out}" in server["args"]
    for container in (writer, server):
        assert str(options.out) in [mount["mountPath"] for mount in container["volumeMounts"]]
    write_red_model(tmp_path / "medium.onnx")
    out = tmp_path / "repository"
    run = [str(out) if text == str(options.out) else text for text in arguments]
    assert repository.main([*run, "--models", str(tmp_path)]) == 0
    assert "KIND_GPU" in next(out.glob("*/config.pbtxt")).read_text()


def test_every_triton_server_is_named_and_can_be_reached() -> None:
    triton = Manifests(render_with("triton"))
    servers, service = triton.one("StatefulSet"), triton.one("Service", "humanseg-triton")
    settings = load_settings([], triton.settings)
    assert settings.triton_servers is not None
    name, governing = servers["metadata"]["name"], servers["spec"]["serviceName"]
    assert service["metadata"]["name"] == governing
    assert service["spec"]["clusterIP"] == "None"
    (container,) = servers["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for kind, port in ports.items():
        assert f"--{kind}-port={port}" in container["args"]
    named = [f"{name}-{index}.{governing}:{ports['grpc']}" for index in range(servers["spec"]["replicas"])]
    assert list(settings.triton_servers.addresses) == named
    out, into = triton.one("NetworkPolicy", "humanseg")["spec"], triton.one("NetworkPolicy", "humanseg-triton")["spec"]
    labels = servers["spec"]["template"]["metadata"]["labels"]
    (to_triton,) = [rule for rule in out["egress"] if "podSelector" in rule["to"][0]]
    assert to_triton["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert to_triton["ports"] == [{"port": ports["grpc"]}]
    assert into["ingress"][0]["from"][0]["podSelector"]["matchLabels"].items() <= triton.pod_labels.items()
