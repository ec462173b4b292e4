"""What a model must say about itself, and how it stands in the ONNX file's own metadata.

Input sizes, normalization and meaning of the output travel inside the file: a model served with another geometry or
color order than it was trained with is wrong in silence, so a file without this is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from humanseg.vision.arrays import Size

PREFIX = "humanseg."
#: Raised when the meaning of a key changes; a file of another format is refused.
FORMAT = "1"


class MetadataError(ValueError):
    """A model file that does not say what the service must know."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model's description of itself.

    Input is (N, H, W, ``channels``) uint8, RGB first (a fourth channel is the previous mask), at ``landscape`` or
    ``upright`` size; normalization happens inside the graph and is named here for the reader only. Output is
    (N, H, W) float32 alpha in [0, 1].
    """

    name: str
    version: str
    landscape: Size
    upright: Size
    channels: int = 3
    normalization: str = "inside the graph"
    license: str = "not stated"
    sources: str = "not stated"
    trained: str = "not stated"

    def __post_init__(self) -> None:
        if not (self.name and self.version):
            raise MetadataError(f"model name {self.name!r} and version {self.version!r} must not be empty")
        if self.channels not in (3, 4):
            raise MetadataError(
                f"model {self.name}: {self.channels} input channels, allowed are 3 (RGB) and 4 (+ mask)"
            )
        if self.landscape.width < self.landscape.height or self.upright.width > self.upright.height:
            raise MetadataError(f"model {self.name}: landscape {self.landscape} and upright {self.upright} are swapped")

    @property
    def canvases(self) -> tuple[Size, ...]:
        """The static input sizes, landscape first, each once."""
        return tuple(dict.fromkeys((self.landscape, self.upright)))

    def to_properties(self) -> dict[str, str]:
        """As text pairs for ONNX ``metadata_props``."""
        pairs = {PREFIX + field.name: str(getattr(self, field.name)) for field in fields(self)}
        return {PREFIX + "format": FORMAT, **pairs}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> "ModelMetadata":
        """Read what `to_properties` wrote.

        Raises:
            MetadataError: a key is missing, its value cannot be read, or the format is another one.
        """
        found = {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}
        wanted = {"format", "name", "version", "landscape", "upright", "channels"}
        if missing := sorted(wanted - found.keys()):
            raise MetadataError(
                f"the ONNX metadata lacks {', '.join(PREFIX + key for key in missing)};"
                " export the model with `python -m train.export`, which writes them"
            )
        if found["format"] != FORMAT:
            raise MetadataError(
                f"{PREFIX}format is {found['format']!r}, this release reads {FORMAT!r}; export it again"
            )
        try:
            return cls(
                landscape=Size.parse(found["landscape"]),
                upright=Size.parse(found["upright"]),
                channels=int(found["channels"]),
                **{
                    key: found[key]
                    for key in ("name", "version", "normalization", "license", "sources", "trained")
                    if key in found
                },
            )
        except MetadataError:
            raise
        except ValueError as error:
            raise MetadataError(f"the ONNX metadata cannot be read: {error}") from None
