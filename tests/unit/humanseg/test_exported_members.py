import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import humanseg
from support.server import ROOT

NETWORK = {"grpc", "google.protobuf"}
PICTURES = {"cv2", "av"}


def test_every_public_name_is_there() -> None:
    for name in humanseg.__all__:
        assert getattr(humanseg, name).__module__.startswith("humanseg") or name == "Answer"
    assert set(humanseg.__all__) <= set(dir(humanseg))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "humanseg" / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {(module, name) for module, names in humanseg._MODULES.items() for name in names}
    assert typed == lazy
    assert {name for _, name in lazy} == set(humanseg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'humanseg' has no attribute 'nonsense'"):
        _ = humanseg.nonsense  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_distribution() -> None:
    assert humanseg.__version__ == metadata.version("humanseg")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import humanseg", NETWORK | PICTURES | {"numpy", "asyncio"}),
        ("import humanseg.vision.letterbox, humanseg.masks", NETWORK | {"asyncio"}),
        ("from humanseg import SegmentationClient, Size", PICTURES),
        ("import humanseg.video", NETWORK),
    ],
)
def test_only_what_is_needed_is_loaded(statement: str, unwanted: set[str], tmp_path: Path) -> None:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())
