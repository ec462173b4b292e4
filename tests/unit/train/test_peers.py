"""A TensorFlow Lite model written in the test, behind the geometry of MediaPipe's graph."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train import evaluate
from train.peers import PeerError, open_tflite

needs_litert = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed")


def write_mean_of_channels(path: Path, height: int, width: int, channels: int = 3) -> None:
    """A model whose alpha is the mean of a pixel's three values: the operator MEAN over axis 3."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(shape: list[int], kind: int, buffer: int, name: str) -> Any:
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.name = shape, kind, buffer, name.encode()
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 1
    mean = schema.OperatorT()
    mean.opcodeIndex, mean.inputs, mean.outputs = 0, [0, 1], [2]
    mean.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    mean.builtinOptions = schema.ReducerOptionsT()
    mean.builtinOptions.keepDims = True
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor([1, height, width, channels], schema.TensorType.FLOAT32, 0, "picture"),
        tensor([1], schema.TensorType.INT32, 1, "axis"),
        tensor([1, height, width, 1], schema.TensorType.FLOAT32, 0, "mask"),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [mean]
    model = schema.ModelT()
    axis = schema.BufferT()
    axis.data = np.frombuffer(np.int32(3).tobytes(), np.uint8)
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), axis]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


@needs_litert
def test_pictures_are_stretched_and_masks_come_back_at_their_size(tmp_path: Path) -> None:
    file = tmp_path / "mean.tflite"
    write_mean_of_channels(file, 16, 32)
    peer = open_tflite(file)
    # Left half white, right half of gray 51: a letterbox would have left bars above and below.
    picture = np.full((90, 60, 3), 51, np.uint8)
    picture[:, :30] = (255, 255, 255)
    alpha = peer.segment(picture)
    assert alpha.shape == (90, 60)
    assert alpha.dtype == np.float32
    assert np.allclose(alpha[:, :28], 1.0, atol=1e-5)
    assert np.allclose(alpha[:, 32:], 0.2, atol=1e-5)


@needs_litert
def test_colors_are_not_swapped_and_values_are_from_0_to_1(tmp_path: Path) -> None:
    file = tmp_path / "mean.tflite"
    write_mean_of_channels(file, 8, 8)
    alpha = open_tflite(file).segment(np.full((8, 8, 3), (30, 60, 90), np.uint8))
    assert np.allclose(alpha, 60 / 255, atol=1e-6)


@needs_litert
def test_what_cannot_be_run_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PeerError, match=r"no file .*none\.tflite"):
        open_tflite(tmp_path / "none.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with pytest.raises(PeerError, match="LiteRT can load"):
        open_tflite(broken)
    four = tmp_path / "four.tflite"
    write_mean_of_channels(four, 8, 8, channels=4)
    with pytest.raises(PeerError, match=r"\(1, 8, 8, 4\).*expected float32 \(1, H, W, 3\)"):
        open_tflite(four)
    (tmp_path / "data").mkdir()
    assert evaluate.main(["--tflite", str(broken), "--data", str(tmp_path / "data")]) == 1
    assert "LiteRT can load" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("ai_edge_litert") is not None, reason="ai-edge-litert is installed")
def test_without_litert_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"humanseg\[peers\]"):
        open_tflite(tmp_path / "x.tflite")
