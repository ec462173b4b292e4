"""Whatever the mask, it comes back as it went in; whatever the bytes, a mask or a MaskError."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from humanseg.masks import MaskEncoding, MaskError, decode_mask, encode_mask
from humanseg.vision.arrays import Size

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@settings(deadline=None, max_examples=80)
@given(mask=masks, encoding=st.sampled_from(MaskEncoding))
def test_there_and_back(mask: NDArray[np.uint8], encoding: MaskEncoding) -> None:
    back = decode_mask(encode_mask(mask, encoding), encoding, Size.of(mask))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, mask)


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
    assert encoding is MaskEncoding.ALPHA8
    assert len(noise) == 13 * 9
