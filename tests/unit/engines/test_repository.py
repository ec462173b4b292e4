"""`python -m engines.repository`: what Triton is given, and what is refused; that it takes it: tests/triton_server."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from engines import repository
from engines.triton_names import triton_version
from humanseg.vision.arrays import Size
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.server import ROOT
from support.timing import limit_s

LYING, STANDING = f"medium-{LANDSCAPE}", f"medium-{UPRIGHT}"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_red_model(folder / "medium.onnx")
    return folder


def write(models: Path, out: Path, *flags: str) -> int:
    return repository.main(["--models", str(models), "--out", str(out), *flags])


def config(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_each_input_size_is_a_model_that_names_the_very_file(models: Path, tmp_path: Path) -> None:
    content = (models / "medium.onnx").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    version = triton_version(sha256)
    assert write(models, tmp_path / "out") == 0
    assert set(contents(tmp_path / "out")) == {
        f"{name}/{file}"
        for name in (LYING, STANDING)
        for file in ("config.pbtxt", f"{version}/model.onnx", f"{version}/model.py")
    }
    for name, canvas in ((LYING, LANDSCAPE), (STANDING, UPRIGHT)):
        assert (tmp_path / "out" / name / version / "model.onnx").read_bytes() == content
        written = config(tmp_path / "out" / name)
        assert (written.name, written.backend, written.max_batch_size) == (name, "python", 8)
        assert written.WhichOneof("scheduling_choice") == "dynamic_batching"
        assert (written.input[0].name, list(written.input[0].dims)) == ("frames", [*canvas.shape, 3])
        assert (written.output[0].name, list(written.output[0].dims)) == ("alpha", [*canvas.shape])
        assert (written.input[0].data_type, written.output[0].data_type) == (pb.TYPE_UINT8, pb.TYPE_FP32)
        assert written.parameters["humanseg.onnx_sha256"].string_value == sha256
        assert written.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
        assert [warmup.batch_size for warmup in written.model_warmup] == [1, 8]


@pytest.mark.parametrize("sha256", ["0" * 64, "0" * 11 + "5" + "0" * 52, "f" * 64])
def test_every_hash_gives_a_version_that_triton_takes(sha256: str) -> None:
    """A number above 0, without zeros before it, that fits 64 bits."""
    version = triton_version(sha256)
    assert 0 < int(version) < 2**63
    assert str(int(version)) == version


def test_a_model_with_one_input_size_is_one_model(models: Path, tmp_path: Path) -> None:
    square = Size(96, 96)
    write_red_model(models / "medium.onnx", landscape=square, upright=square)
    assert write(models, tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["medium-96x96"]


def test_what_is_asked_for_is_what_stands_there(models: Path, tmp_path: Path) -> None:
    flags = ["--backend", "onnxruntime", "--device", "gpu", "--max-batch", "16", "--preferred", "16,8"]
    assert write(models, tmp_path / "out", *flags, "--queue-delay-us", "500", "--instances", "2") == 0
    written = config(tmp_path / "out" / LYING)
    assert (written.backend, written.max_batch_size) == ("onnxruntime", 16)
    assert list(written.dynamic_batching.preferred_batch_size) == [8, 16]
    assert written.dynamic_batching.max_queue_delay_microseconds == 500
    assert (written.instance_group[0].kind, written.instance_group[0].count) == (pb.ModelInstanceGroup.KIND_GPU, 2)
    assert [warmup.batch_size for warmup in written.model_warmup] == [1, 16]
    assert not list((tmp_path / "out").rglob("model.py"))


def test_a_second_run_replaces_what_it_wrote_and_leaves_the_rest(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "other").mkdir(parents=True)
    (out / "other" / "config.pbtxt").write_text('name: "other"')
    assert write(models, out) == 0
    before = contents(out)
    assert write(models, out) == 0
    assert contents(out) == before
    write_red_model(models / "medium.onnx", divisor=254.0)
    assert write(models, out) == 0
    assert len(contents(out)) == len(before), "the version that was there is still there"
    assert contents(out) != before
    assert "left as they are: other" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted([LYING, STANDING, "other"])


def test_tensorrt_gets_half_precision_and_the_commands_that_build(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert repository.main(["--out", str(out), "--backend", "tensorrt", "--max-batch", "4"]) == 0
    version = triton_version(hashlib.sha256((repository.MODELS / "medium.onnx").read_bytes()).hexdigest())
    script = (out / "build-plans.sh").read_text()
    for name, sides in (("medium-320x192", "192x320"), ("medium-192x320", "320x192")):
        assert (out / name / version).is_dir(), "where the plan is to lie"
        assert (out / name / "model.onnx").stat().st_size < 0.6 * (repository.MODELS / "medium.onnx").stat().st_size
        assert config(out / name).instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
        shapes = f"--minShapes=frames:1x{sides}x3 --optShapes=frames:4x{sides}x3 --maxShapes=frames:4x{sides}x3"
        assert f"--onnx={name}/model.onnx {shapes} --saveEngine={name}/{version}/model.plan" in script
    # The script runs from anywhere, once for each plan, and stops at the first that fails.
    done = subprocess.run(
        ["sh", str(out / "build-plans.sh")], env={"TRTEXEC": "echo", "PATH": "/usr/bin:/bin"}, cwd="/",
        capture_output=True, text=True, timeout=limit_s(60), check=True,
    )  # fmt: skip
    assert done.stdout.count("--saveEngine") == 2 * len(list(repository.MODELS.glob("*.onnx")))
    failed = subprocess.run(
        ["sh", str(out / "build-plans.sh")], env={"TRTEXEC": "false", "PATH": "/usr/bin:/bin"}, cwd="/",
        capture_output=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert failed.returncode != 0


def test_nothing_half_written_is_left_where_a_write_fails(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / STANDING).mkdir(parents=True)
    (out / STANDING / "notes.txt").write_text("somebody else's")
    assert write(models, out) == 1
    assert "has no config.pbtxt; it is not ours to replace: choose another --out" in capsys.readouterr().err
    assert (out / STANDING / "notes.txt").read_text() == "somebody else's"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    (tmp_path / "file").touch()
    assert write(models, tmp_path / "file") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_models_that_cannot_be_served_are_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "no *.onnx in" in capsys.readouterr().err
    write_red_model(models / "second.onnx")
    assert write(models, tmp_path / "out") == 1
    assert "both call themselves 'medium'; remove one" in capsys.readouterr().err
    (models / "second.onnx").write_bytes(b"no model")
    assert write(models, tmp_path / "out") == 1
    assert "second.onnx is not a model" in capsys.readouterr().err
    write_red_model(models / "second.onnx", name="../../etc")
    assert write(models, tmp_path / "out") == 1
    assert "model name '../../etc' cannot name a folder of a Triton repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--backend", "tensorrt", "--device", "cpu"], "runs on GPUs only; leave out --device cpu"),
        (["--backend", "python", "--device", "gpu"], "runs on CPUs only; take --backend onnxruntime or tensorrt"),
        (["--max-batch", "4", "--preferred", "2,8"], "--preferred 8 is above --max-batch 4"),
        (["--max-batch", "0"], "0 is out of range, allowed are 1 to 256"),
        (["--preferred", "4;8"], "'4;8' is not a whole number"),
        (["--max-bat", "4"], "unrecognized arguments: --max-bat"),
    ],
)
def test_a_bad_command_line_is_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], text: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        write(models, tmp_path / "out", *flags)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_tritons_client_it_says_what_to_install(models: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['tritonclient'] = None;"
        " from engines.repository import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--models", str(models), "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().endswith("install `humanseg[triton]`")
