"""Stills before another background, out of a real server, and what it says to requests that are no good."""

import struct
import zlib
from collections.abc import AsyncIterator

import cv2
import grpc
import numpy as np
import pytest

from humanseg import (
    BlurBackground,
    ColorBackground,
    Composed,
    Composite,
    FramePolicy,
    ImageBackground,
    InvalidRequestError,
    LimitExceededError,
    PictureAnswer,
    PictureError,
    PixelFormat,
    Rotation,
    SegmentationClient,
    SessionConfig,
    Size,
    TemporalFusion,
    TransparentBackground,
    UnknownModelError,
)
from humanseg.composite_config import Background
from humanseg.frames import pack_planes, view_frame
from humanseg.png import SIGNATURE, PngHeader, pack_chunk
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Picture
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.cv import encode_png
from humanseg.vision.decode import decode_picture
from support.server import RunningServer
from support.stream import Ending, open_stub

SIZE = Size(320, 192)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
#: Red is the model's answer: the person is white, the room without red.
PERSON, ROOM, NEW = (255, 255, 255), (0, 160, 60), (10, 20, 200)
BOX = (slice(48, 144), slice(80, 240))
WELL_INSIDE, ABOVE = (slice(60, 132), slice(92, 228)), (slice(0, 36), slice(0, 320))


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


def scene() -> Picture:
    picture = np.full((*SIZE.shape, 3), ROOM, np.uint8)
    picture[BOX] = PERSON
    return picture


def file_of(picture: Picture, pixel_format: PixelFormat) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 98] if pixel_format is PixelFormat.JPEG else []
    return cv2.imencode(f".{pixel_format.value}", picture[..., ::-1], quality)[1].tobytes()


def halves(size: Size) -> Picture:
    """Yellow left, blue right: shows how it lies."""
    picture = np.full((*size.shape, 3), (250, 240, 10), np.uint8)
    picture[:, size.width // 2 :] = (10, 20, 240)
    return picture


def rgb_of(composed: Composed) -> Picture:
    if composed.pixel_format.compressed:
        return decode_picture(composed.data, 10**7, 10**4, exif=True)
    return to_rgb(view_frame(composed.data, composed.pixel_format, composed.size))


def off_by(picture: Picture, area: tuple[slice, slice], color: tuple[int, int, int]) -> float:
    return float(np.abs(picture[area].astype(int) - np.array(color)).max())


def assert_new_room(composed: Composed, tolerance: int = 8) -> None:
    picture = rgb_of(composed)
    assert Size.of(picture) == composed.size == SIZE
    assert off_by(picture, WELL_INSIDE, PERSON) <= tolerance
    assert off_by(picture, ABOVE, NEW) <= tolerance


@pytest.mark.parametrize("wanted", [None, PixelFormat.JPEG, PixelFormat.PNG])
@pytest.mark.parametrize("pixel_format", [*RAW, PixelFormat.JPEG, PixelFormat.PNG])
async def test_every_format_in_and_out(
    client: SegmentationClient, pixel_format: PixelFormat, wanted: PixelFormat | None
) -> None:
    composite = Composite(ColorBackground(*NEW), wanted)
    if pixel_format.compressed:
        composed = await client.compose(file_of(scene(), pixel_format), composite)
    else:
        raw = pack_planes(from_rgb(scene(), pixel_format))
        composed = await client.compose(raw, composite, pixel_format=pixel_format, size=SIZE)
    assert composed.pixel_format is (wanted or pixel_format)
    assert_new_room(composed)
    assert composed.model.name == "medium"
    assert composed.times.total_us >= composed.times.inference_us > 0


async def test_an_array_comes_back_as_one(client: SegmentationClient) -> None:
    composed = await client.compose(scene(), Composite(ColorBackground(*NEW)))
    np.testing.assert_array_equal(composed.array, rgb_of(composed))
    assert_new_room(composed, 2)


async def test_a_transparent_one_holds_nothing_of_the_room(client: SegmentationClient) -> None:
    composed = await client.compose(file_of(scene(), PixelFormat.JPEG), Composite(TransparentBackground()))
    assert composed.pixel_format is PixelFormat.PNG
    rgba = cv2.imdecode(np.frombuffer(composed.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert rgba is not None
    assert rgba.shape == (*SIZE.shape, 4)
    assert (rgba[WELL_INSIDE] >= 250).all()
    assert not rgba[ABOVE].any()


async def test_a_room_of_stripes_is_blurred(client: SegmentationClient) -> None:
    picture = scene()
    picture[:48, ::8, 1] = picture[:48, 1::8, 1] = picture[:48, 2::8, 1] = picture[:48, 3::8, 1] = 0
    blurred = rgb_of(await client.compose(picture, Composite(BlurBackground())))
    assert np.ptp(picture[10:30, 20:300, 1].astype(int), axis=1).min() == 160
    assert np.ptp(blurred[10:30, 20:300, 1].astype(int), axis=1).max() < 30


@pytest.mark.parametrize("kind", [PixelFormat.JPEG, PixelFormat.PNG])
async def test_an_image_covers_the_picture(client: SegmentationClient, kind: PixelFormat) -> None:
    image = ImageBackground(file_of(halves(Size(400, 100)), kind))
    picture = rgb_of(await client.compose(scene(), Composite(image)))
    assert off_by(picture, (slice(0, 36), slice(0, 150)), (250, 240, 10)) <= 6
    assert off_by(picture, (slice(0, 36), slice(170, 320)), (10, 20, 240)) <= 6
    assert off_by(picture, WELL_INSIDE, PERSON) <= 4


async def test_an_image_stands_upright_in_a_turned_picture(client: SegmentationClient) -> None:
    lying = np.full((*SIZE.shape, 3), ROOM, np.uint8)
    image = ImageBackground(encode_png(halves(Size(192, 320))))
    upright = np.rot90(rgb_of(await client.compose(lying, Composite(image), rotation=Rotation.DEG_90)), -1)
    assert off_by(upright, (slice(0, 320), slice(0, 86)), (250, 240, 10)) <= 6


def exif_turned(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF block that says how viewers must turn it."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


async def test_a_photo_that_lies_on_its_side_comes_back_as_viewers_show_it(client: SegmentationClient) -> None:
    photo = exif_turned(file_of(np.ascontiguousarray(np.rot90(scene())), PixelFormat.JPEG), 6)
    composed = await client.compose(photo, Composite(ColorBackground(*NEW)))
    assert_new_room(composed)


def png_of(width: int, height: int) -> bytes:
    """A small file that declares any size: a megabyte of zeros packs into a kilobyte."""
    header = PngHeader(Size(width, height), 8, 2, 0, 0, 0).pack()
    pixels = zlib.compress(bytes(1 << 20))
    return SIGNATURE + pack_chunk(b"IHDR", header) + pack_chunk(b"IDAT", pixels) + pack_chunk(b"IEND", b"")


BAD: list[tuple[Composite, str, str]] = [
    (Composite(BlurBackground(0.5)), "composite.blur.radius_percent", "50 is out of range, allowed are 3 to 20"),
    (Composite(ColorBackground(0, 256, 0)), "composite.color", "(0, 256, 0) is out of range"),
    (Composite(ImageBackground(image_id="beach")), "background_image", "empty, and composite.image_id asks"),
    (
        Composite(BlurBackground(), PixelFormat.I420),
        "composite.picture_format",
        "I420 does not go with frames of RGB24; allowed is JPEG or PNG or RGB24",
    ),
    (
        Composite(TransparentBackground(), PixelFormat.JPEG),
        "composite.picture_format",
        "JPEG does not go with a transparent background; allowed is PNG",
    ),
    (Composite(BlurBackground(), PixelFormat.PNG, 80), "composite.jpeg_quality", "80 for pictures of PNG"),
    (Composite(BlurBackground(), PixelFormat.JPEG, 101), "composite.jpeg_quality", "101 is out of range"),
    (Composite(BlurBackground(), edge_softness_percent=101), "composite.edge_softness_percent", "101 is out of range"),
]


@pytest.mark.parametrize(("composite", "field", "text"), BAD)
async def test_a_bad_composite_is_refused_by_name(
    client: SegmentationClient, composite: Composite, field: str, text: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.compose(scene(), composite)
    assert caught.value.reason == "CONFIG_INVALID"
    (violation,) = caught.value.field_violations
    assert violation.field == field
    assert text in violation.description
    assert_new_room(await client.compose(scene(), Composite(ColorBackground(*NEW))))


async def raw_refusal(server: RunningServer, **fields: object) -> Ending:
    given: dict[str, object] = {
        "picture": scene().tobytes(), "pixel_format": pb.PIXEL_FORMAT_RGB24, "width": 320, "height": 192, **fields,
    }  # fmt: skip
    async with open_stub(server.target) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Segment(pb.SegmentRequest(**given))  # type: ignore[arg-type]
    return Ending.of_error(caught.value)


async def test_what_the_client_would_not_send_is_refused_all_at_once(server: RunningServer) -> None:
    blur = pb.Composite(blur=pb.Composite.Blur())
    ending = await raw_refusal(
        server, composite=blur, background_image=b"x", mask_encoding=pb.MASK_ENCODING_PNG, mask_width=8, mask_height=8
    )
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert "1 bytes without composite.image_id" in ending.fields["background_image"]
    assert "PNG with a composite, which has no mask" in ending.fields["mask_encoding"]
    assert "8x8 with a composite" in ending.fields["mask_width, mask_height"]
    ending = await raw_refusal(server, composite=pb.Composite())
    assert "none is set" in ending.fields["composite.background"]
    ending = await raw_refusal(server, composite=pb.Composite(blur=pb.Composite.Blur(), picture_format=77))  # type: ignore[arg-type]
    assert "value 77 is not known" in ending.fields["composite.picture_format"]
    ending = await raw_refusal(server, composite=blur, mask_encoding=9)
    assert ending.fields.keys() == {"mask_encoding"}
    assert "value 9 is not known" in ending.fields["mask_encoding"]
    ending = await raw_refusal(server, background_image=b"x")
    assert "without composite.image_id" in ending.fields["background_image"]


@pytest.mark.parametrize("file", [png_of(60_000, 60_000), png_of(1, 5000)])
async def test_an_image_bomb_is_refused_by_its_header(
    server: RunningServer, client: SegmentationClient, file: bytes
) -> None:
    before = server.rss_bytes()
    with pytest.raises(LimitExceededError, match=r"background image: .* exceeds max_side_px"):
        await client.compose(scene(), Composite(ImageBackground(file)))
    with pytest.raises(LimitExceededError, match="exceeds max_side_px"):
        await client.compose(file, Composite(BlurBackground()))
    assert server.rss_bytes() - before < 100 << 20
    assert_new_room(await client.compose(scene(), Composite(ColorBackground(*NEW))))


@pytest.mark.parametrize("file", [b"GIF89a", file_of(scene(), PixelFormat.JPEG)[:-200], png_of(64, 64)[:-40]])
async def test_a_broken_image_and_a_broken_picture_are_told_apart(client: SegmentationClient, file: bytes) -> None:
    for picture, image, field in ((scene(), file, "background_image"), (file, encode_png(scene()), "picture")):
        with pytest.raises(PictureError) as caught:
            await client.compose(picture, Composite(ImageBackground(image)))
        (violation,) = caught.value.field_violations
        assert violation.field == field


async def test_picture_and_image_share_the_limit_of_bytes(server: RunningServer, client: SegmentationClient) -> None:
    limit = (await client.list_models()).limits.max_frame_bytes
    image = bytes(limit - scene().nbytes + 1)
    with pytest.raises(LimitExceededError, match=rf"with a background image of {len(image)} exceeds the server's"):
        await client.compose(scene(), Composite(ImageBackground(image)))
    composite = pb.Composite(image_id="x")
    ending = await raw_refusal(server, composite=composite, background_image=image)
    assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert f"with a background image of {len(image)} exceeds max_frame_bytes {limit}" in ending.message
    ending = await raw_refusal(server, composite=composite, background_image=image[:-1])
    assert ending.reason == "PICTURE_INVALID", "it may be sent, and is no image"


async def test_an_unknown_model_and_an_engine_that_fails(server: RunningServer, client: SegmentationClient) -> None:
    with pytest.raises(UnknownModelError):
        await client.compose(scene(), Composite(BlurBackground()), model="huge")
    white = np.full((*SIZE.shape, 3), 255, np.uint8).tobytes()
    ending = await raw_refusal(server, model="faulty", picture=white, composite=pb.Composite(blur=pb.Composite.Blur()))
    assert (ending.code, ending.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


BACKGROUNDS: list[Background] = [BlurBackground(), ColorBackground(*NEW), TransparentBackground()]


@pytest.mark.parametrize("background", BACKGROUNDS, ids=repr)
async def test_a_still_is_as_the_same_picture_in_a_stream(client: SegmentationClient, background: Background) -> None:
    config = SessionConfig(
        SIZE, temporal_fusion=TemporalFusion.OFF, frame_policy=FramePolicy.EVERY, composite=Composite(background)
    )
    composed = await client.compose(scene(), Composite(background))
    async with client.stream(config) as stream:
        await stream.send(scene())
        answer = await anext(stream)
    assert isinstance(answer, PictureAnswer)
    assert composed.data == answer.data
