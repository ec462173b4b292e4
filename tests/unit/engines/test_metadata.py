"""A model's description of itself: there and back, and refused where it says too little or makes no sense."""

import pytest

from engines.metadata import PREFIX, MetadataError, ModelMetadata
from humanseg.vision.arrays import Size

GOOD = ModelMetadata(
    name="medium", version="2026.11", landscape=Size(320, 192), upright=Size(192, 320), channels=4, license="Apache-2.0"
)


def test_there_and_back() -> None:
    properties = GOOD.to_properties()
    assert properties[f"{PREFIX}landscape"] == "320x192"
    assert ModelMetadata.from_properties({**properties, "producer": "somebody else"}) == GOOD


def test_a_square_model_has_one_canvas() -> None:
    square = ModelMetadata(name="s", version="1", landscape=Size(256, 256), upright=Size(256, 256))
    assert square.canvases == (Size(256, 256),)
    assert GOOD.canvases == (Size(320, 192), Size(192, 320))


@pytest.mark.parametrize("key", ["format", "name", "version", "landscape", "upright", "channels"])
def test_what_is_missing_is_named(key: str) -> None:
    properties = GOOD.to_properties()
    del properties[PREFIX + key]
    with pytest.raises(MetadataError, match=f"lacks {PREFIX}{key}; export the model"):
        ModelMetadata.from_properties(properties)


def test_a_file_without_any_of_it_names_all() -> None:
    with pytest.raises(MetadataError, match=r"humanseg\.channels, humanseg\.format, humanseg\.landscape"):
        ModelMetadata.from_properties({})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("format", "2", "format is '2', this release reads '1'"),
        ("landscape", "192x320", "landscape 192x320 and upright 192x320 are swapped"),
        ("upright", "320x192", "are swapped"),
        ("landscape", "320", "'320' is not WIDTHxHEIGHT"),
        ("landscape", "0x0", "'0x0' is not WIDTHxHEIGHT"),
        ("channels", "5", "5 input channels, allowed are 3"),
        ("channels", "three", "cannot be read"),
        ("name", "", "must not be empty"),
        ("version", "", "must not be empty"),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: str, text: str) -> None:
    with pytest.raises(MetadataError, match=text):
        ModelMetadata.from_properties({**GOOD.to_properties(), PREFIX + key: value})
