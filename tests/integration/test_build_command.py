"""``python -m engines.build`` where TensorRT or a GPU is missing, and with arguments that make no sense."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from engines.build import judged_on, main
from engines.metadata import ModelMetadata
from engines.probe import probe
from humanseg.vision.arrays import Size


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
    assert [batch.shape for batch in judged_on(metadata)] == [(2, 288, 512, 4), (2, 512, 288, 4)]
