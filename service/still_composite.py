"""Finished pictures of stills: the composite of a request checked, and the image behind people decoded."""

import asyncio
from dataclasses import replace

from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.v1 import segmentation_pb2 as pb
from service.composite_messages import decode_image, requested_composite
from service.compositing import BackgroundFile, CompositePlan, check_composite
from service.pipeline import PictureTask
from service.stream_config import SizeLimits

#: A still may become a file of either kind, whatever it was.
FILES = frozenset({PixelFormat.JPEG, PixelFormat.PNG})


def check_still_composite(
    message: pb.SegmentRequest,
    input_format: PixelFormat,
    encoding: MaskEncoding | None,
    complaints: list[tuple[str, str]],
) -> CompositePlan | None:
    """The plan of a request's composite, its image not decoded yet; None where it has none or complaints were added."""
    image_bytes = len(message.background_image)
    is_with_image = message.composite.WhichOneof("background") == "image_id"
    if image_bytes and not is_with_image:
        text = f"{image_bytes} bytes without composite.image_id, which puts it behind people; set that, or leave it out"
        complaints.append(("background_image", text))
    if not message.HasField("composite"):
        return None
    if is_with_image and not image_bytes:
        text = "empty, and composite.image_id asks for an image; put its file here"
        complaints.append(("background_image", text))
    if message.mask_width or message.mask_height:
        text = f"{message.mask_width}x{message.mask_height} with a composite, which is of the picture's own size"
        complaints.append(("mask_width, mask_height", f"{text}; leave both 0"))
    if encoding not in (None, MaskEncoding.ALPHA8):
        complaints.append(("mask_encoding", f"{encoding.name} with a composite, which has no mask; leave it out"))
    image_id = message.composite.image_id
    images = {image_id: BackgroundFile(image_id, message.background_image)} if is_with_image else {}
    requested = requested_composite(message.composite, complaints, "composite")
    return check_composite(requested, input_format, images, complaints, field="composite", files=FILES)


async def with_image(task: PictureTask, limits: SizeLimits) -> PictureTask:
    """The task with the image of its composite decoded, if it has one.

    Raises:
        CallError: LIMIT_EXCEEDED or PICTURE_INVALID.
    """
    plan = task.composite
    if plan is None or not isinstance(plan.background, BackgroundFile):
        return task
    sent = plan.background
    image = await asyncio.to_thread(decode_image, sent.image_id, sent.file, limits, "background_image")
    return replace(task, composite=replace(plan, background=image))
