"""Whom to keep where only the main person is wanted: pure, with what a session must remember passed in and returned.

People are the connected parts of the mask at the network's size. The main one counts most: his area, the more the
nearer his center lies to the middle of the picture. He keeps that part over time, so that neither somebody who leans in
for a moment nor a frame in which the network misses him hands it to another, whom the caller was promised not to see.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, BoolMask, Size

#: Alpha from which on a pixel is somebody's: parts are joined here. The soft rim is dealt out afterwards.
_BODY = 0.5
#: Alpha up to which there is nobody: 5 of 255 levels.
_NOBODY = 0.02
#: How much an area counts whose center lies in a corner, against one in the middle.
_CORNER_WEIGHT = 0.25
#: Share of the larger of both areas, that of the frame before and that of this one, that must overlap: the same person.
_OVERLAP = 0.25
#: Somebody who counts this much more takes the part, once he did so in `PATIENCE_FRAMES` frames in a row.
_MUCH_LARGER = 1.5
#: Without any overlap, whoever counts at least so much of what the main person did is taken for him: he moved fast.
_ALIKE = 0.5
#: Frames in a row before the part goes to another: a third of a second at 30 frames a second.
PATIENCE_FRAMES = 10


@dataclass(frozen=True, slots=True, eq=False)
class MainPersonState:
    """What one session remembers; empty before the first frame, and whenever the past no longer fits."""

    body: BoolMask | None = None
    """(H, W): where the main person was last seen; 61 KB at 320x192."""
    weight: float = 0.0
    """What he counted there: pixels by the weight of their place."""
    doubt_frames: int = 0
    """Frames in a row in which somebody else counted much more, or he was not there."""


def keep_main(alpha: Alpha, state: MainPersonState) -> tuple[Alpha, MainPersonState]:
    """The main person alone: every other pixel becomes 0.

    A pixel keeps its value or becomes 0, so that what the mask leaves out (between arm and hip) stays out. Whoever
    touches the main person at half of alpha is one part with him. Of a soft rim shared by two people each keeps what is
    nearer to him.

    Args:
        alpha: (H, W) float32 in [0, 1], without padding.
        state: what this function returned for the frame before, of the same size; an empty one to begin.

    Returns the (H, W) float32, an array of the caller's own, and the state for the next frame. All 0 where nobody is in
    the picture, and while only somebody much smaller than the main person is, until he takes the part.

    Raises:
        ValueError: alpha is not (H, W) float32, or of another size than the state.
    """
    if alpha.ndim != 2 or alpha.dtype != np.float32:
        raise ValueError(f"alpha {alpha.shape} {alpha.dtype} must be (H, W) float32")
    if state.body is not None and state.body.shape != alpha.shape:
        raise ValueError(f"alpha {alpha.shape} after a frame of {state.body.shape}; begin with an empty state")
    bodies = alpha >= np.float32(_BODY)
    labels, areas, centers = cv.measure_parts(bodies)
    weights = areas * _place_weights(centers, Size.of(alpha))
    # Label 0 is nobody.
    weights[0] = 0.0
    chosen, doubt_frames = _choose(state, labels, areas, weights)
    if chosen == 0:
        nobody = np.zeros_like(alpha)
        return nobody, MainPersonState() if doubt_frames == 0 else replace(state, doubt_frames=doubt_frames)
    body = labels == chosen
    kept = np.where(_around(body, bodies, alpha), alpha, np.float32(0))
    return kept, MainPersonState(body, float(weights[chosen]), doubt_frames)


def _choose(
    state: MainPersonState, labels: NDArray[np.int32], areas: NDArray[np.int32], weights: NDArray[np.float64]
) -> tuple[int, int]:
    """(label of the main person, 0 for nobody; frames of doubt from now on)."""
    strongest = int(weights.argmax())
    if state.body is None:
        return strongest, 0
    doubt_frames = state.doubt_frames + 1
    is_long = doubt_frames >= PATIENCE_FRAMES
    overlaps = np.bincount(labels[state.body], minlength=len(weights))
    overlaps[0] = 0
    own = int(overlaps.argmax())
    if own != 0 and overlaps[own] >= _OVERLAP * max(np.count_nonzero(state.body), areas[own]):
        if weights[strongest] < _MUCH_LARGER * weights[own]:
            return own, 0
        return (strongest, 0) if is_long else (own, doubt_frames)
    if weights[strongest] >= _ALIKE * state.weight or is_long:
        return strongest, 0
    return 0, doubt_frames


def _around(body: BoolMask, bodies: BoolMask, alpha: Alpha) -> BoolMask:
    """The main person with his soft rim, up to half of the way to anybody else."""
    around = _part_with(body, alpha > np.float32(_NOBODY))
    others = around & bodies & ~body
    if not others.any():
        return around
    # Once more: what hung together with him by somebody else's rim only is not his.
    return _part_with(body, around & (cv.distance_to(body) < cv.distance_to(others)))


def _part_with(body: BoolMask, mask: BoolMask) -> BoolMask:
    """The connected part of a mask in which a connected ``body`` lies."""
    labels = cv.label_parts(mask)
    part: BoolMask = labels == labels.ravel()[body.argmax()]
    return part


def _place_weights(centers: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """(N,) of (N, 2) places: 1 in the middle, falling with the square of the distance to `_CORNER_WEIGHT`."""
    # From -1 at one border to 1 at the other.
    places = (centers + 0.5) / np.array(size) * 2 - 1
    weights: NDArray[np.float64] = 1 - (1 - _CORNER_WEIGHT) / 2 * (places**2).sum(axis=1)
    return weights
