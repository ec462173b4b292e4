"""The images that the Dockerfile really makes: `make image-check`."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import humanseg
from humanseg.video import read_rgb
from support.image import BASE, Image, built_image, started, why_no_image
from support.manifests import ROOT
from support.server import running_server
from support.timing import limit_s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(3600)),
    pytest.mark.skipif(why_no_image() is not None, reason=str(why_no_image())),
]

CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"


@pytest.fixture(scope="module")
def cpu() -> Iterator[Image]:
    with built_image("humanseg:check") as image:
        yield image


async def segment(address: str, picture_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    async with humanseg.SegmentationClient(address) as client:
        return (await client.segment(picture_rgb)).alpha8


def test_the_default_image_serves_as_another_user_and_ends_on_sigterm(cpu: Image, tmp_path: Path) -> None:
    (frame,) = islice(read_rgb(CLIP), 1)
    with running_server(ROOT / "engines" / "models") as server:
        expected = asyncio.run(segment(server.target, frame))
    with started(cpu, tmp_path / "log") as container:
        container.wait_until_healthy()
        assert container.server.uids().effective == 10001
        container.run(*cpu.config["Healthcheck"]["Test"][1:])
        seen = asyncio.run(segment(container.address, frame))
        container.server.terminate()
        assert container.process.wait(limit_s(60)) == 0, container.log
    assert "telemetry" not in container.log, "ONNX Runtime warns that it may not keep its device's ID"
    assert 0.05 < np.mean(expected > 127) < 0.8, "the clip shows a woman before a wall"
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= 1
    print(
        f"\nimage: {cpu.size}\nperson: {np.mean(seen > 127):.1%} of the picture, as from the checkout\n{container.log}"
    )


def test_the_default_image_has_no_compiler_and_nothing_that_serving_does_not_need(cpu: Image, tmp_path: Path) -> None:
    unwanted = ["torch", "av", "pip", "setuptools", "train", "tests"]
    program = (
        "import importlib.util, shutil\n"
        f"print([name for name in {unwanted} if importlib.util.find_spec(name)])\n"
        "print([name for name in ('cc', 'gcc', 'clang', 'make') if shutil.which(name)])"
    )
    with started(cpu, tmp_path / "log") as container:
        assert container.run("python", "-c", program).split() == ["[]", "[]"]


def test_the_lines_of_the_gpu_image_build_on_a_base_without_cuda_and_say_what_is_missing(tmp_path: Path) -> None:
    """CUDA, TensorRT and a driver cannot be had here: the stand-in base, and what the public index has."""
    arguments = [f"--build-arg=GPU_BASE={BASE}", "--build-arg=GPU_EXTRAS=server,gpu"]
    with built_image("humanseg:gpu-check", "--target=gpu", *arguments) as image:
        with started(image, tmp_path / "log") as container:
            assert container.process.wait(limit_s(120)) == 1, container.log
        assert "engine tensorrt cannot run here" in container.log
        assert "tensorrt is not installed" in container.log
        print(f"\ngpu image without TensorRT: {image.size}\n{container.log}")
