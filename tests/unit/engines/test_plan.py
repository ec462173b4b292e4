"""What a plan was built for, and its sidecar: there and back, and every changed byte found."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.plan import Flavor, PlanKey, Precision, Profile, Sidecar, buckets_for
from humanseg.vision.arrays import Size
from support.plans import BUILT, KEY

CHANGES = {
    "model": "large",
    "onnx_sha256": "cd" * 32,
    "flavor": Flavor.TENSORRT_RTX,
    "version": "10.16.1.11",
    "compute_capability": "9.0",
    "driver": "12.8",
    "precision": Precision.FP32,
    "buckets": (1, 2),
    "canvases": (Size(320, 192),),
    "recipe": KEY.recipe + 1,
}


def test_every_field_of_a_key_changes_its_file_name() -> None:
    assert CHANGES.keys() == {field.name for field in fields(PlanKey)}
    stems = {replace(KEY, **{name: value}).stem for name, value in CHANGES.items()}  # type: ignore[arg-type]
    assert len(stems | {KEY.stem}) == len(CHANGES) + 1


def test_a_name_cannot_leave_the_folder() -> None:
    assert "/" not in replace(KEY, model="../../etc/passwd").stem


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"compute_capability": "89"}, "'89' is not MAJOR.MINOR, for example 8.9"),
        ({"onnx_sha256": "abc"}, "'abc' is not a SHA-256"),
        ({"buckets": ()}, "at least one bucket"),
    ],
)
def test_a_key_that_makes_no_sense(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(KEY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("largest", "buckets"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (32, (1, 2, 4, 8, 16, 32))]
)
def test_buckets_end_at_the_largest_batch(largest: int, buckets: tuple[int, ...]) -> None:
    assert buckets_for(largest) == buckets


@pytest.mark.parametrize("largest", [0, -1, 33])
def test_a_largest_batch_out_of_range(largest: int) -> None:
    with pytest.raises(ValueError, match=f"largest batch {largest} is not within 1 and 32"):
        buckets_for(largest)


def test_profiles_are_all_buckets_of_a_canvas_then_the_next() -> None:
    assert KEY.profiles[:4] == (
        Profile(1, Size(320, 192)), Profile(2, Size(320, 192)), Profile(4, Size(320, 192)), Profile(1, Size(192, 320))
    )  # fmt: skip
    assert KEY.profiles[3].shape(4) == (1, 320, 192, 4)


def test_a_sidecar_there_and_back_with_names_and_no_enum_numbers() -> None:
    sidecar = Sidecar.of(KEY, BUILT)
    content = sidecar.dump()
    assert Sidecar.parse(content) == sidecar
    found = json.loads(content)
    assert found["tensors"][0] == {"name": "frames", "mode": "INPUT", "dtype": "UINT8", "shape": [-1, -1, -1, 3]}
    assert (found["flags"], found["key"]["precision"], found["key"]["flavor"]) == (["TF32"], "fp16", "tensorrt")
    assert found["profiles"][5] == {"index": 5, "batch": 4, "canvas": "192x320"}


@given(st.data())
def test_any_changed_byte_of_a_sidecar_is_refused(data: st.DataObject) -> None:
    content = bytearray(Sidecar.of(KEY, BUILT).dump())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"is not JSON|has format|does not hold|was changed"):
        Sidecar.parse(bytes(content))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "has format None, this release reads 1"),
        (b'{"format": 2}', "has format 2, this release reads 1"),
        (b'{"format": 1}', "does not hold what this release writes"),
        (b'{"format": 1, "key": {}}', "key has the fields"),
        (b'{"format": 1, "key": 7}', "does not hold what this release writes"),
    ],
)
def test_what_is_no_sidecar(content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Sidecar.parse(content)
