"""Whatever the mask, it comes back as it went in, or as its hard form; whatever the bytes, a mask or a MaskError."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from humanseg.masks import MaskEncoding, MaskError, decode_mask, encode_mask
from humanseg.vision.arrays import Size

SOFT = [MaskEncoding.ALPHA8, MaskEncoding.PNG]
HARD = [MaskEncoding.PACKED, MaskEncoding.RLE]
masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@settings(deadline=None, max_examples=80)
@given(mask=masks, encoding=st.sampled_from(SOFT))
def test_there_and_back(mask: NDArray[np.uint8], encoding: MaskEncoding) -> None:
    back = decode_mask(encode_mask(mask, encoding), encoding, Size.of(mask))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, mask)


@settings(deadline=None, max_examples=80)
@given(mask=masks)
def test_all_encodings_hold_the_same_hard_mask(mask: NDArray[np.uint8]) -> None:
    wanted = mask >= 128
    for encoding in MaskEncoding:
        back = decode_mask(encode_mask(mask, encoding), encoding, Size.of(mask))
        np.testing.assert_array_equal(back >= 128, wanted)
        if encoding in HARD:
            np.testing.assert_array_equal(back, np.where(wanted, 255, 0))


@settings(deadline=None, max_examples=80)
@given(size=st.builds(Size, st.integers(1, 500), st.integers(1, 500)), data=st.data())
def test_large_plain_areas(size: Size, data: st.DataObject) -> None:
    """Runs of one to three bytes, over the ends of rows."""
    mask = np.zeros(size.area_px, np.uint8)
    for _ in range(data.draw(st.integers(0, 4))):
        mask[data.draw(st.integers(0, size.area_px)) :] ^= 255
    mask = mask.reshape(size.shape)
    for encoding in HARD:
        np.testing.assert_array_equal(decode_mask(encode_mask(mask, encoding), encoding, size), mask)


def runs_by_hand(mask: NDArray[np.uint8]) -> bytes:
    """The contract's words, pixel by pixel."""
    runs, of_person = [0], False
    for value in mask.ravel().tolist():
        if (value >= 128) != of_person:
            of_person = not of_person
            runs.append(0)
        runs[-1] += 1
    out = bytearray()
    for run in runs:
        while run >= 128:
            out.append(run % 128 + 128)
            run //= 128
        out.append(run)
    return bytes(out)


@settings(deadline=None, max_examples=80)
@given(mask=masks)
def test_runs_are_as_the_contract_says(mask: NDArray[np.uint8]) -> None:
    assert encode_mask(mask, MaskEncoding.RLE) == runs_by_hand(mask)
    wide = np.repeat(mask, 50, axis=1)
    assert encode_mask(wide, MaskEncoding.RLE) == runs_by_hand(wide)
    assert len(encode_mask(mask, MaskEncoding.RLE)) <= mask.size + 1


@settings(deadline=None, max_examples=80)
@given(mask=masks, data=st.data())
def test_damaged_bytes_are_refused_or_harmless(mask: NDArray[np.uint8], data: st.DataObject) -> None:
    file = bytearray(encode_mask(mask, MaskEncoding.PNG))
    position = data.draw(st.integers(0, len(file) - 1))
    file[position:position] = data.draw(st.binary(max_size=8))
    try:
        back = decode_mask(bytes(file), MaskEncoding.PNG, Size.of(mask))
    except MaskError:
        return
    assert back.shape == mask.shape


@settings(deadline=None, max_examples=80)
@given(noise=st.binary(max_size=200), encoding=st.sampled_from(MaskEncoding))
def test_noise_is_refused(noise: bytes, encoding: MaskEncoding) -> None:
    try:
        decode_mask(noise, encoding, Size(13, 9))
    except MaskError:
        return
    assert encoding is not MaskEncoding.PNG
    if encoding is MaskEncoding.ALPHA8:
        assert len(noise) == 13 * 9
