"""What a built engine is, in words: the key it was built for, and the sidecar file that goes with it.

TensorRT calls a serialized engine a *plan*. It holds code for one GPU, one version of TensorRT and fixed input shapes,
and whoever loads it runs that code; so a plan is loaded only beside a sidecar that names all of it
(`engines.plan_cache`). Sidecars hold names, never numbers of NVIDIA's enums: those moved between TensorRT 10 and 11.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TypedDict, cast

from engines.runner import EngineError
from humanseg.vision.arrays import Size

#: Raised when a sidecar's form or meaning changes; another one is refused and built again.
FORMAT = 1
#: Raised when the same ONNX file would give another plan: the half-precision conversion or the builder's settings.
RECIPE = 1
#: In place of a driver for plans that do not depend on it: TensorRT-RTX builds without one.
ANY_DRIVER = "any"
#: How many pictures a batch of each static profile has, as far as the largest batch goes.
BUCKETS = (1, 2, 4, 8, 16, 32)


class PlanError(EngineError):
    """A plan cannot be used; the message names the file, what is wrong and how to mend it."""


class PlanMissingError(PlanError):
    """Nothing was built for this key."""


class PlanStaleError(PlanError):
    """Built from another model file, precision, shapes or by another release of the builder."""


class PlanForeignError(PlanError):
    """Built for another GPU, driver, version or flavor of TensorRT."""


class PlanDamagedError(PlanError):
    """The plan or its sidecar is cut off, changed, or cannot be read."""


class PlanUnsafeError(PlanError):
    """Others may write the file or its folder, and a plan is code."""


class CacheWriteError(PlanError):
    """The folder cannot be written, or the disk is full."""


class Flavor(StrEnum):
    """Which of NVIDIA's libraries."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Precision(StrEnum):
    """What the network computes in; the input stays uint8 and the output float32."""

    FP32 = "fp32"
    FP16 = "fp16"


def buckets_for(max_batch: int) -> tuple[int, ...]:
    """Batch sizes of the static profiles: `BUCKETS` below ``max_batch``, and ``max_batch`` itself.

    Raises:
        ValueError: not within 1 and the largest bucket.
    """
    if not 1 <= max_batch <= BUCKETS[-1]:
        raise ValueError(f"largest batch {max_batch} is not within 1 and {BUCKETS[-1]}")
    return (*(size for size in BUCKETS if size < max_batch), max_batch)


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on: two plans of the same key may stand for each other."""

    model: str
    """As the model file calls itself."""
    onnx_sha256: str
    """Of the file in the models folder, before any conversion."""
    flavor: Flavor
    version: str
    """Of that flavor, ``trt.__version__``."""
    compute_capability: str
    """Of the GPU, ``8.9``."""
    driver: str
    """The newest CUDA that the driver serves, ``13.0``, as `engines.probe` says it; `ANY_DRIVER` for RTX."""
    precision: Precision
    buckets: tuple[int, ...]
    """Batch sizes, one static profile each and canvas."""
    canvases: tuple[Size, ...]
    """Input sizes, landscape first."""
    recipe: int = RECIPE

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+\.\d", self.compute_capability):
            raise ValueError(f"compute capability {self.compute_capability!r} is not MAJOR.MINOR, for example 8.9")
        if not re.fullmatch(r"[0-9a-f]{64}", self.onnx_sha256):
            raise ValueError(f"{self.onnx_sha256!r} is not a SHA-256 in lower-case hex")
        if not (self.buckets and self.canvases):
            raise ValueError("a plan needs at least one bucket and one canvas")

    @property
    def digest(self) -> str:
        """SHA-256 of all fields, in hex."""
        return _sha256_of(self.to_json())

    @property
    def stem(self) -> str:
        """Begins the names of this plan's files; distinct for every key, and says the main things to a reader."""
        words = (
            re.sub(r"[^A-Za-z0-9_.]", "_", self.model),
            self.precision,
            self.flavor,
            "sm" + self.compute_capability.replace(".", ""),
            self.digest[:12],
        )
        return "-".join(words)

    @property
    def profiles(self) -> tuple["Profile", ...]:
        """The static profiles in the order of their index in the plan: all buckets of a canvas, then the next."""
        return tuple(Profile(batch, canvas) for canvas in self.canvases for batch in self.buckets)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {**asdict(self), "canvases": [str(canvas) for canvas in self.canvases], "buckets": list(self.buckets)}

    @classmethod
    def from_json(cls, found: dict[str, object]) -> "PlanKey":
        """Read what `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is not that.
        """
        if found.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"key has the fields {sorted(found)}")
        values = cast(_KeyJson, found)
        return cls(
            model=str(values["model"]),
            onnx_sha256=str(values["onnx_sha256"]),
            flavor=Flavor(values["flavor"]),
            version=str(values["version"]),
            compute_capability=str(values["compute_capability"]),
            driver=str(values["driver"]),
            precision=Precision(values["precision"]),
            buckets=tuple(int(size) for size in values["buckets"]),
            canvases=tuple(Size.parse(text) for text in values["canvases"]),
            recipe=int(values["recipe"]),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """One static optimization profile: min, opt and max are the same."""

    batch: int
    canvas: Size

    def shape(self, channels: int) -> tuple[int, int, int, int]:
        """(N, H, W, C) of the network's input."""
        return (self.batch, *self.canvas.shape, channels)


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """An input or output of the plan, in TensorRT's names (``INPUT``, ``UINT8``); -1 where a dimension is free."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """What a build gives, before it is written."""

    plan: bytes
    tensors: tuple[PlanTensor, ...]
    flags: tuple[str, ...]
    """Names of the builder's flags that were set."""
    build_s: float


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What stands beside a plan."""

    key: PlanKey
    plan_sha256: str
    plan_bytes: int
    tensors: tuple[PlanTensor, ...]
    flags: tuple[str, ...]
    build_s: float

    @classmethod
    def of(cls, key: PlanKey, built: BuiltPlan) -> "Sidecar":
        """The sidecar of a plan that was just built."""
        digest = hashlib.sha256(built.plan).hexdigest()
        return cls(key, digest, len(built.plan), built.tensors, built.flags, round(built.build_s, 3))

    @property
    def plan_name(self) -> str:
        """The plan file, named by its own hash too: a new plan never stands where an old sidecar points."""
        return f"{self.key.stem}-{self.plan_sha256[:12]}.plan"

    def dump(self) -> bytes:
        """The file's content. It ends with a hash of the rest, so that a changed byte here is found as well."""
        values: dict[str, object] = {
            "format": FORMAT,
            "key": self.key.to_json(),
            "plan_sha256": self.plan_sha256,
            "plan_bytes": self.plan_bytes,
            "tensors": [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in self.tensors],
            # Follows from the key; written for whoever reads the file.
            "profiles": [
                {"index": index, "batch": profile.batch, "canvas": str(profile.canvas)}
                for index, profile in enumerate(self.key.profiles)
            ],
            "flags": list(self.flags),
            "build_s": self.build_s,
        }
        return (json.dumps({**values, "sha256": _sha256_of(values)}, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, content: bytes) -> "Sidecar":
        """Read what `dump` wrote.

        Raises:
            ValueError: it is not that, byte for byte; the message says what is wrong with it.
        """
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            raise ValueError("is not JSON") from None
        if not isinstance(found, dict):
            raise ValueError("is not a JSON object")
        if found.get("format") != FORMAT:
            raise ValueError(f"has format {found.get('format')!r}, this release reads {FORMAT}")
        values = cast(_SidecarJson, found)
        try:
            sidecar = cls(
                key=PlanKey.from_json(values["key"]),
                plan_sha256=str(values["plan_sha256"]),
                plan_bytes=int(values["plan_bytes"]),
                tensors=tuple(
                    PlanTensor(tensor["name"], tensor["mode"], tensor["dtype"], tuple(tensor["shape"]))
                    for tensor in values["tensors"]
                ),
                flags=tuple(values["flags"]),
                build_s=float(values["build_s"]),
            )
            same = sidecar.dump() == content
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"does not hold what this release writes ({error})") from None
        if not same:
            raise ValueError("was changed after it was written")
        return sidecar


class _KeyJson(TypedDict):
    model: str
    onnx_sha256: str
    flavor: str
    version: str
    compute_capability: str
    driver: str
    precision: str
    buckets: list[int]
    canvases: list[str]
    recipe: int


class _TensorJson(TypedDict):
    name: str
    mode: str
    dtype: str
    shape: list[int]


class _SidecarJson(TypedDict):
    key: dict[str, object]
    plan_sha256: str
    plan_bytes: int
    tensors: list[_TensorJson]
    flags: list[str]
    build_s: float


def _sha256_of(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
