"""Which scenes training makes, and how often; the defaults are those of the first models. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenes:
    """Shares in [0, 1] of what is laid over or put into samples; see `PLAIN` and `RICH`."""

    sources: tuple[str, ...] = ()
    """People are cut out of photos of these sources only; empty: of all."""
    several_share: float = 0.0
    """Of the composites: a second person, and in three of ten of these a third."""
    closeup_share: float = 0.0
    """Of the composites on a landscape canvas: a webcam's view, large, the head in the picture, cut off below."""
    object_share: float = 0.0
    """Of the composites: a desk, a screen, a mug or a pole before the people, which is background."""
    backlight_share: float = 0.0
    """Of the composites: dark people before a bright background that shines round their edge."""
    dark_share: float = 0.0
    """Of all samples: low light with the noise of a camera that lifts it."""
    video_share: float = 0.0
    """Of all samples: through a video codec, instead of JPEG in some."""


PLAIN = Scenes()
#: Every outline of these three was drawn with care; COCO's are coarse, Penn-Fudan's people small.
CAREFUL_SOURCES = ("portraits", "mixed", "full_body")
RICH = Scenes(
    sources=CAREFUL_SOURCES,
    several_share=0.3,
    # Landscape pictures of one person close up are what the service sees most and what the photos show least.
    closeup_share=0.5,
    object_share=0.25,
    backlight_share=0.12,
    dark_share=0.08,
    video_share=0.2,
)
BY_NAME = {"plain": PLAIN, "rich": RICH}
