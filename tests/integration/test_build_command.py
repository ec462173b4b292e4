"""``python -m engines.build`` where TensorRT or a GPU is missing, and with arguments that make no sense."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from engines.build import main
from engines.build_report import SUFFIXES, judged_on, measure
from engines.metadata import ModelMetadata
from engines.plan import Flavor, Precision
from engines.probe import probe
from engines.registry import DEFAULT_ENGINE, ENGINES, open_runner
from engines.runner import EngineFailedError
from humanseg.vision.arrays import Size
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.plans import KEY


def lines_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err.splitlines()


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "python -m engines.build --model large --precision fp16 --max-batch 32" in shown
    assert "--compute-capability X.Y" in shown


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_all_that_is_missing_is_said_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "engines"
    status, lines = lines_of(["--model", "medium", "--cache", str(cache)], capsys)
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith("engines.build: tensorrt cannot build here: ")
    assert "package tensorrt cannot be imported (No module named 'tensorrt'); `pip install" in lines[0]
    if not probe().usable:
        assert probe().text in lines[0]
    assert not cache.exists()


@pytest.mark.skipif(find_spec("tensorrt_rtx") is not None, reason="TensorRT-RTX is installed here")
@pytest.mark.parametrize("named", [True, False])
def test_rtx_is_missing(named: bool, capsys: pytest.CaptureFixture[str]) -> None:
    capability = ["--compute-capability", "8.9"] if named else []
    status, lines = lines_of(["--model", "medium", "--flavour", "tensorrt-rtx", *capability], capsys)
    assert (status, len(lines)) == (2, 1)
    assert "package tensorrt_rtx cannot be imported" in lines[0]
    assert "`pip install 'humanseg[rtx]'`" in lines[0]
    if not named and not probe().usable:
        assert "or name one by --compute-capability 8.9" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "the following arguments are required: --model"),
        (["--max-batch", "0"], "largest batch 0 is not within 1 and 32"),
        (["--max-batch", "33"], "largest batch 33 is not within 1 and 32"),
        (["--max-batch", "many"], "invalid literal for int"),
        (["--precision", "int8"], "invalid choice: 'int8'"),
        (["--flavor", "tensorrt-lean"], "invalid choice: 'tensorrt-lean'"),
        (["--compute-capability", "89", "--flavor", "tensorrt-rtx"], "'89' is not MAJOR.MINOR, for example 8.9"),
        (["--compute-capability", "8.6,", "--flavor", "tensorrt-rtx"], "'' is not MAJOR.MINOR"),
        (["--compute-capability", "8.9"], "goes with --flavor tensorrt-rtx: TensorRT builds for the GPU it runs on"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*(["--model", "medium"] if arguments else []), *arguments])
    assert text in capsys.readouterr().err


def test_what_precision_is_judged_on_fits_every_canvas() -> None:
    metadata = ModelMetadata("m", "1", Size(512, 288), Size(288, 512), channels=4)
    assert [batch.shape for batch in judged_on(metadata, 2)] == [(2, 288, 512, 4), (2, 512, 288, 4)]


def test_what_an_engine_is_held_against(tmp_path: Path) -> None:
    """Engines of the CPU in the place of a GPU's: one that is right, and one whose alphas are a tenth too small."""
    key = replace(KEY, buckets=(1, 2), canvases=(LANDSCAPE, UPRIGHT))
    right = write_red_model(tmp_path / "right.onnx")
    reference, runner, wrong = (
        open_runner(engine, path, max_batch=2, concurrency=1)
        for engine, path in (
            (DEFAULT_ENGINE, right),
            ("openvino-f32", right),
            (DEFAULT_ENGINE, write_red_model(tmp_path / "wrong.onnx", divisor=280.0)),
        )
    )
    figures = measure(reference, runner, key)
    assert figures["parity"] == {"to_cpu": 0.0, "other_order": 0.0, "equal_rows": 0.0}
    assert isinstance(figures["latency"], dict)
    assert list(figures["latency"]) == ["1", "2"]
    with pytest.raises(EngineFailedError, match=r"to_cpu: mean difference of alpha 0\.0\d+ at batch 1 of 160x96"):
        measure(reference, wrong, key)


def test_every_flavor_and_precision_has_an_engine_that_serves_it() -> None:
    names = {f"{flavor}{suffix}" for flavor in Flavor for suffix in SUFFIXES.values()}
    assert names <= ENGINES.keys()
    assert SUFFIXES.keys() == set(Precision)
