"""Finished pictures out of a real server, and what it says to configs and images that are no good."""

import asyncio
import dataclasses
import struct
import zlib
from collections.abc import AsyncIterator

import cv2
import numpy as np
import pytest

from humanseg import (
    Accepted,
    BlurBackground,
    ColorBackground,
    Composite,
    Degradation,
    Dropped,
    DropReason,
    Estimates,
    FramePolicy,
    ImageBackground,
    InvalidRequestError,
    LimitExceededError,
    MaskAnswer,
    MaskEncoding,
    PictureAnswer,
    PictureError,
    PixelFormat,
    Rotation,
    SegmentationClient,
    SegmentationStream,
    SessionConfig,
    Size,
    TemporalFusion,
    TransparentBackground,
)
from humanseg.answers import Answer
from humanseg.frames import pack_planes, view_frame
from humanseg.png import SIGNATURE, PngHeader, pack_chunk
from humanseg.vision.arrays import Picture
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.decode import decode_picture
from support.server import RunningServer
from support.timing import limit_s

SIZE = Size(320, 192)
CONFIG = SessionConfig(
    SIZE, temporal_fusion=TemporalFusion.OFF, frame_policy=FramePolicy.EVERY, composite=Composite(BlurBackground())
)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
#: Red is the model's answer: the person is white, the room of two colors without red.
PERSON, ROOM, NEW = (255, 255, 255), (0, 160, 60), (10, 20, 200)
BOX = (slice(48, 144), slice(80, 240))
WELL_INSIDE, WELL_OUTSIDE = (slice(60, 132), slice(92, 228)), (slice(0, 36), slice(0, 320))


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


def scene(size: Size = SIZE) -> Picture:
    picture = np.full((*size.shape, 3), ROOM, np.uint8)
    picture[BOX] = PERSON
    return picture


def config(background: object, pixel_format: PixelFormat = PixelFormat.RGB24, **options: object) -> SessionConfig:
    composite = Composite(background, **options)  # type: ignore[arg-type]
    return dataclasses.replace(CONFIG, pixel_format=pixel_format, composite=composite)


def packed(picture: Picture, pixel_format: PixelFormat) -> bytes:
    if pixel_format is PixelFormat.JPEG:
        return jpeg(picture)
    return pack_planes(from_rgb(picture, pixel_format))


def jpeg(picture: Picture) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def rgb_of(answer: PictureAnswer) -> Picture:
    if answer.pixel_format.compressed:
        return decode_picture(answer.data, 10**7, 10**4, exif=False)
    return to_rgb(view_frame(answer.data, answer.pixel_format, answer.size))


def off_by(picture: Picture, area: tuple[slice, slice], color: tuple[int, int, int]) -> float:
    return float(np.abs(picture[area].astype(int) - np.array(color)).max())


async def next_answer(stream: SegmentationStream) -> Answer:
    async with asyncio.timeout(limit_s(20)):
        return await anext(stream)


async def one_picture(
    client: SegmentationClient, wanted: SessionConfig, picture: bytes, **frame: object
) -> PictureAnswer:
    async with client.stream(wanted) as stream:
        await stream.send(picture, **frame)  # type: ignore[arg-type]
        answer = await next_answer(stream)
    assert isinstance(answer, PictureAnswer), answer
    return answer


@pytest.mark.parametrize("pixel_format", [*RAW, PixelFormat.JPEG])
async def test_a_color_in_every_format(client: SegmentationClient, pixel_format: PixelFormat) -> None:
    wanted = config(ColorBackground(*NEW), pixel_format)
    answer = await one_picture(client, wanted, packed(scene(), pixel_format))
    assert (answer.pixel_format, answer.size) == (pixel_format, SIZE)
    picture = rgb_of(answer)
    assert off_by(picture, WELL_INSIDE, PERSON) <= 4
    assert off_by(picture, WELL_OUTSIDE, NEW) <= (8 if pixel_format is PixelFormat.JPEG else 4)
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        assert answer.array.shape == (*SIZE.shape, 3)
    elif not pixel_format.compressed:
        assert answer.array.shape == (SIZE.height * 3 // 2, SIZE.width)


async def test_the_config_comes_back_with_its_defaults(client: SegmentationClient) -> None:
    async with client.stream(config(BlurBackground(0.1), PixelFormat.I420)) as stream:
        assert stream.accepted.config.composite == Composite(
            BlurBackground(0.1), picture_format=PixelFormat.I420, edge_softness_percent=80
        )
    async with client.stream(config(ColorBackground(1, 2, 3), picture_format=PixelFormat.JPEG)) as stream:
        assert stream.accepted.config.composite == Composite(
            ColorBackground(1, 2, 3), picture_format=PixelFormat.JPEG, jpeg_quality=85, edge_softness_percent=80
        )
    async with client.stream(config(BlurBackground(), spread_percent=0.7, light_wrap_percent=40)) as stream:
        accepted = stream.accepted.config.composite
        assert accepted is not None
        assert (accepted.spread_percent, accepted.light_wrap_percent) == (0.7, 40)


async def test_a_spread_mask_shows_a_rim_and_light_falls_on_the_edge(client: SegmentationClient) -> None:
    """On the wire: the rim is the real room's, as wide as asked for; the light is that of the new background."""
    pictures = []
    for options in ({}, {"spread_percent": 2.0}, {"light_wrap_percent": 100}):
        wanted = config(ColorBackground(255, 255, 0), **options)
        pictures.append(rgb_of(await one_picture(client, wanted, scene().tobytes())))
    plain, spread, lit = pictures
    changed = np.abs(spread.astype(int) - plain).max(axis=2) > 60
    assert changed.any()
    assert off_by(spread, WELL_OUTSIDE, (255, 255, 0)) <= 1
    # A white person in yellow light: less blue.
    assert (lit[..., 2].astype(int) < plain[..., 2].astype(int) - 60).any()
    assert (lit[..., 2] <= plain[..., 2]).all()
    assert np.abs(lit[..., :2].astype(int) - plain[..., :2]).max() <= 40
    assert off_by(lit, WELL_INSIDE, PERSON) <= 4


async def test_a_blurred_room_without_the_person_in_it(client: SegmentationClient) -> None:
    answer = await one_picture(client, config(BlurBackground(), PixelFormat.I420), packed(scene(), PixelFormat.I420))
    picture = rgb_of(answer)
    assert off_by(picture, WELL_INSIDE, PERSON) <= 4
    # A room of one color stays that color right up to the person: no white glow.
    assert off_by(picture, (slice(0, 42), slice(0, 320)), ROOM) <= 6


async def test_jpeg_quality_is_heeded(client: SegmentationClient) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*SIZE.shape, 3), np.uint8)
    noise[..., 0] = 255
    sizes = []
    for quality in (20, 95):
        wanted = config(ColorBackground(*NEW), picture_format=PixelFormat.JPEG, jpeg_quality=quality)
        answer = await one_picture(client, wanted, noise.tobytes())
        assert answer.data.startswith(b"\xff\xd8")
        sizes.append(len(answer.data))
    assert sizes[1] > 2 * sizes[0]


async def test_a_transparent_one_holds_nothing_of_the_room(client: SegmentationClient) -> None:
    answer = await one_picture(client, config(TransparentBackground()), packed(scene(), PixelFormat.RGB24))
    assert answer.pixel_format is PixelFormat.PNG
    rgba = cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert rgba is not None
    assert rgba.shape == (*SIZE.shape, 4)
    assert (rgba[WELL_INSIDE] == 255).all()
    assert not rgba[WELL_OUTSIDE].any()


def halves(size: Size) -> Picture:
    """Yellow left, blue right: shows how it lies."""
    picture = np.full((*size.shape, 3), (250, 240, 10), np.uint8)
    picture[:, size.width // 2 :] = (10, 20, 240)
    return picture


async def test_an_image_covers_and_is_sent_once(client: SegmentationClient) -> None:
    image = ImageBackground(cv2.imencode(".png", halves(Size(400, 100))[..., ::-1])[1].tobytes())
    wanted = config(image)
    async with client.stream(wanted) as stream:
        for change in (wanted, config(ColorBackground(*NEW)), wanted):
            await stream.reconfigure(change)
            assert isinstance(await next_answer(stream), Accepted)
        await stream.send(scene())
        answer = await next_answer(stream)
    assert isinstance(answer, PictureAnswer)
    picture = rgb_of(answer)
    assert off_by(picture, (slice(0, 36), slice(0, 150)), (250, 240, 10)) <= 4
    assert off_by(picture, (slice(0, 36), slice(170, 320)), (10, 20, 240)) <= 4


async def test_an_image_stands_upright_in_a_turned_and_mirrored_frame(client: SegmentationClient) -> None:
    image = ImageBackground(jpeg(halves(Size(192, 320))))
    turned = np.full((*SIZE.shape, 3), ROOM, np.uint8)
    answer = await one_picture(client, config(image), turned.tobytes(), rotation=Rotation.DEG_90)
    # Sent lying; a quarter turn clockwise makes it upright, and then yellow must be left.
    upright = np.rot90(rgb_of(answer), -1)
    assert off_by(upright, (slice(0, 320), slice(0, 86)), (250, 240, 10)) <= 6
    answer = await one_picture(client, config(image), turned.tobytes(), rotation=Rotation.DEG_90, mirrored=True)
    upright = np.rot90(rgb_of(answer), -1)[:, ::-1]
    assert off_by(upright, (slice(0, 320), slice(0, 86)), (250, 240, 10)) <= 6


async def test_masks_and_pictures_alternate_in_one_stream(client: SegmentationClient) -> None:
    masks = dataclasses.replace(CONFIG, composite=None)
    async with client.stream(masks) as stream:
        await stream.send(scene())
        assert isinstance(await next_answer(stream), MaskAnswer)
        await stream.reconfigure(CONFIG)
        assert isinstance(await next_answer(stream), Accepted)
        await stream.send(scene())
        assert isinstance(await next_answer(stream), PictureAnswer)
        await stream.send(bytes(100))
        dropped = await next_answer(stream)
        assert isinstance(dropped, Dropped)
        assert dropped.reason is DropReason.WRONG_BYTE_COUNT
        # Odd, and another size than the config's.
        await stream.send(np.ascontiguousarray(scene()[:175, :311]))
        odd = await next_answer(stream)
        assert isinstance(odd, PictureAnswer)
        assert odd.array.shape == (175, 311, 3)


BAD: list[tuple[SessionConfig, str, str]] = [
    (config(BlurBackground(0.5)), "config.composite.blur.radius_percent", "50 is out of range, allowed are 3 to 20"),
    (config(BlurBackground(0.001)), "config.composite.blur.radius_percent", "allowed are 3 to 20"),
    (config(BlurBackground(float("nan"))), "config.composite.blur.radius_percent", "nan is out of range"),
    (config(ColorBackground(0, 256, 0)), "config.composite.color", "(0, 256, 0) is out of range, allowed are 0 to 255"),
    (config(ImageBackground(image_id="beach")), "config.composite.image_id", "'beach' is not known in this stream"),
    (
        config(BlurBackground(), PixelFormat.I420, picture_format=PixelFormat.RGB24),
        "config.composite.picture_format",
        "RGB24 does not go with frames of I420; allowed is I420 or JPEG",
    ),
    (
        config(TransparentBackground(), picture_format=PixelFormat.JPEG),
        "config.composite.picture_format",
        "JPEG does not go with a transparent background; allowed is PNG",
    ),
    (config(BlurBackground(), jpeg_quality=80), "config.composite.jpeg_quality", "80 for pictures of RGB24"),
    (
        config(BlurBackground(), picture_format=PixelFormat.JPEG, jpeg_quality=101),
        "config.composite.jpeg_quality",
        "101 is out of range",
    ),
    (
        config(BlurBackground(), spread_percent=2.1),
        "config.composite.spread_percent",
        "2.1 is out of range, allowed are 0 to 2 % of the height",
    ),
    (config(BlurBackground(), spread_percent=float("nan")), "config.composite.spread_percent", "nan is out of range"),
    (config(BlurBackground(), spread_percent=-1.0), "config.composite.spread_percent", "-1 is out of range"),
    (config(BlurBackground(), light_wrap_percent=101), "config.composite.light_wrap_percent", "101 is out of range"),
    (
        config(TransparentBackground(), light_wrap_percent=1),
        "config.composite.light_wrap_percent",
        "1 with a transparent background, which gives no light",
    ),
    (
        config(BlurBackground(), edge_softness_percent=101),
        "config.composite.edge_softness_percent",
        "101 is out of range",
    ),
    (
        dataclasses.replace(CONFIG, mask_size=Size(64, 64)),
        "config.mask_width, config.mask_height",
        "64x64 with a composite",
    ),
    (dataclasses.replace(CONFIG, mask_encoding=MaskEncoding.PNG), "config.mask_encoding", "PNG with a composite"),
    (dataclasses.replace(CONFIG, estimates=Estimates.SUPERSEDED), "config.estimates", "SUPERSEDED with a composite"),
    (
        dataclasses.replace(CONFIG, degradation=Degradation.MODEL_AND_RATE),
        "config.degradation",
        "MODEL_AND_RATE with a composite",
    ),
]


@pytest.mark.parametrize(("wanted", "field", "text"), BAD)
async def test_a_bad_config_is_refused_by_name(
    client: SegmentationClient, wanted: SessionConfig, field: str, text: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        async with client.stream(wanted):
            pass
    assert caught.value.reason == "CONFIG_INVALID"
    (violation,) = caught.value.field_violations
    assert violation.field == field
    assert text in violation.description


def png_of(width: int, height: int) -> bytes:
    """A small file that declares any size: a megabyte of zeros packs into a kilobyte."""
    header = PngHeader(Size(width, height), 8, 2, 0, 0, 0).pack()
    pixels = zlib.compress(bytes(1 << 20))
    return SIGNATURE + pack_chunk(b"IHDR", header) + pack_chunk(b"IDAT", pixels) + pack_chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A good JPEG whose header was made to declare another size."""
    file = bytearray(jpeg(np.zeros((8, 8, 3), np.uint8)))
    at = file.index(b"\xff\xc0")
    struct.pack_into(">HH", file, at + 5, height, width)
    return bytes(file)


@pytest.mark.parametrize("file", [png_of(60_000, 60_000), jpeg_of(65_000, 65_000), png_of(1, 5000)])
async def test_an_image_bomb_is_refused_by_its_header(
    server: RunningServer, client: SegmentationClient, file: bytes
) -> None:
    before = server.rss_bytes()
    with pytest.raises(LimitExceededError, match="exceeds max_side_px"):
        async with client.stream(config(ImageBackground(file))):
            pass
    assert server.rss_bytes() - before < 100 << 20
    answer = await one_picture(client, CONFIG, scene().tobytes())
    assert answer.size == SIZE, "nothing else is harmed"


@pytest.mark.parametrize("file", [b"GIF89a", jpeg(scene())[:-200], png_of(64, 64)[:-40]])
async def test_a_broken_image_is_refused(client: SegmentationClient, file: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        async with client.stream(config(ImageBackground(file))):
            pass
    (violation,) = caught.value.field_violations
    assert violation.field == "background_image.file"


async def test_ids_are_used_once_and_images_are_few(client: SegmentationClient) -> None:
    def image(level: int, image_id: str) -> SessionConfig:
        return config(ImageBackground(jpeg(np.full((8, 8, 3), level, np.uint8)), image_id))

    async def refused(*wanted: SessionConfig) -> InvalidRequestError:
        with pytest.raises(InvalidRequestError) as caught:
            async with client.stream(CONFIG) as stream:
                for one in wanted:
                    await stream.reconfigure(one)
                    assert isinstance(await next_answer(stream), Accepted)
        return caught.value

    again = await refused(image(10, "wall"), image(200, "wall"))
    assert again.field_violations[0].field == "background_image.image_id"
    assert "'wall' was sent already and cannot be replaced" in again.message
    unknown = await refused(image(10, "wall"), config(ImageBackground(image_id="well")))
    assert "'well' is not known in this stream, known are 'wall'" in unknown.message
    too_many = await refused(*(image(10, f"wall {number}") for number in range(5)))
    assert isinstance(too_many, LimitExceededError)
    assert too_many.metadata == {"max_background_images": "4"}
    for bad in ("ä", "x" * 65, "\n"):
        assert "is no id" in (await refused(image(10, bad))).message
