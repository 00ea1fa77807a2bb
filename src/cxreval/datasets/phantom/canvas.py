"""Drawing primitives with exactly rounded arithmetic: one seed, one picture, on every machine.

IEEE 754 rounds +, -, *, / and sqrt exactly; it does not promise that for exp, sin or power, and
the result of a sum depends on the order in which a CPU adds. So pictures are made of comparisons,
polynomials and single operations on whole arrays, and the only random numbers are
`Generator.random()` of PCG64. Every `Field` is float32, one value per pixel, from about 0 (black)
to 1 (white).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

# Always float32. The hint is wider because numpy's types give float64 for float32 times a float.
Field = npt.NDArray[np.floating[Any]]
Points = npt.NDArray[np.float64]

SIDE = 1024
"""Width and height of a finished picture in pixels."""

SHAPES = 256
"""Side of the grid for soft shapes; it is enlarged later."""

LINES = 512
"""Side of the grid for ribs, vessels and other thin structures."""

_FIXED_POINT = 16
"""Steps per gray level during the last enlargement, which works in integers.

255 * 16 steps times 16 weights fit into 16 bits.
"""


def stream(seed: int, *key: int) -> np.random.Generator:
    """Returns the random generator of `key`, independent of the generators of all other keys."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


@cache
def pixel_centers(side: int) -> tuple[Field, Field]:
    """Returns x (1, side) and y (side, 1) of the pixel centers; 0 and 1 are the picture's edges."""
    centers = (np.arange(side, dtype=np.float32) + 0.5) / side
    return centers[np.newaxis, :], centers[:, np.newaxis]


def smoothstep(start: float, end: float, x: Field) -> Field:
    """Returns 0 before `start`, 1 beyond `end`, 3t² - 2t³ between. `start` may exceed `end`."""
    t: Field = np.clip((x - start) * (1.0 / (end - start)), 0, 1)
    return t * t * (3.0 - 2.0 * t)


def ellipse(
    u: Field, v: Field, center: tuple[float, float], radii: tuple[float, float], soft: float = 0.5
) -> Field:
    """Returns 1 inside an ellipse and 0 outside it.

    The edge is spread over the outer `soft` part of the squared radius, half of it outside.
    """
    du, dv = (u - center[0]) * (1.0 / radii[0]), (v - center[1]) * (1.0 / radii[1])
    return smoothstep(1.0 + soft / 2, 1.0 - soft / 2, du * du + dv * dv)


def stripe(distance: Field, half_width: float, soft: float) -> Field:
    """Returns 1 where |distance| is below `half_width`, fading to 0 within `soft` beyond it."""
    return smoothstep(half_width + soft, half_width, np.abs(distance))


def enlarge(field: Field) -> Field:
    """Doubles the side by linear interpolation at pixel centers, with the border repeated."""
    return _enlarge_rows(_enlarge_rows(field).T).T


def _enlarge_rows(field: Field) -> Field:
    padded = np.concatenate([field[:1], field, field[-1:]])
    out = np.empty((2 * field.shape[0], field.shape[1]), np.float32)
    near = field * 0.75
    out[0::2] = near + padded[:-2] * 0.25
    out[1::2] = near + padded[2:] * 0.25
    return out


def soften(field: Field) -> Field:
    """Blurs each pixel with weights 1 2 1 across and down; the outermost pixels become 0."""
    out = np.zeros_like(field)
    down = field[:-2] + 2.0 * field[1:-1] + field[2:]
    out[1:-1, 1:-1] = (down[:, :-2] + 2.0 * down[:, 1:-1] + down[:, 2:]) * (1 / 16)
    return out


@cache
def clouds(octaves: int) -> Field:
    """Returns a fixed (2 SHAPES, 2 SHAPES) tile of smooth noise, about uniform in [0, 1].

    More octaves give finer detail.
    """
    random = stream(0, 0, octaves)
    total = np.zeros((2 * SHAPES, 2 * SHAPES), np.float32)
    for octave in range(octaves):
        layer = random.random((8 << octave, 8 << octave)).astype(np.float32)
        while layer.shape[0] < 2 * SHAPES:
            layer = enlarge(layer)
        total += (layer - 0.5) * (1 / (1 << octave))
    tile: Field = np.clip(total * 1.1 + 0.5, 0, 1)
    return tile


def cloud_window(octaves: int, across: float, down: float) -> Field:
    """Returns a (SHAPES, SHAPES) window of `clouds`, at the offset `across`, `down` in [0, 1)."""
    left, top = int(across * SHAPES), int(down * SHAPES)
    return clouds(octaves)[top : top + SHAPES, left : left + SHAPES]


@cache
def _grain() -> npt.NDArray[np.int16]:
    """Returns a fixed tile of nearly normal noise.

    Its standard deviation is one gray level, in `_FIXED_POINT` steps.
    """
    random = stream(0, 1)
    side = SIDE + SIDE // 4
    uniforms = random.random(
        (3, side, side), dtype=np.float32
    )  # three uniforms have variance 3 / 12
    total = uniforms[0] + uniforms[1] + uniforms[2] - 1.5
    grain: npt.NDArray[np.int16] = np.floor(total * (2.0 * _FIXED_POINT) + 0.5).astype(np.int16)
    return grain


def develop(field: Field, noise: float, across: float, down: float) -> npt.NDArray[np.uint8]:
    """Returns the 8-bit (SIDE, SIDE) picture of a (LINES, LINES) field, enlarged and with grain.

    Args:
        field: 0 is black, 1 is white; values outside are clipped.
        noise: standard deviation of the grain in gray levels, at most 8.
        across: horizontal offset of the window of the grain, in [0, 1).
        down: its vertical offset, in [0, 1).

    Args:
        field: 0 is black, 1 is white; values outside are clipped.
        noise: standard deviation of the grain in gray levels, at most 8.
        across: where the window of the grain lies, in [0, 1).
        down: likewise.
    """
    levels = (np.clip(field, 0, 1) * (255.0 * _FIXED_POINT) + 0.5).astype(np.uint16)
    large = _enlarge_integers(_enlarge_integers(levels).T).T  # 16 times the level
    left, top = int(across * (SIDE // 4)), int(down * (SIDE // 4))
    grain = (_grain()[top : top + SIDE, left : left + SIDE] * np.int16(noise * _FIXED_POINT)) >> 4
    picture = (large >> 4).astype(np.int16) + grain + np.int16(_FIXED_POINT // 2)
    return (np.clip(picture, 0, 256 * _FIXED_POINT - 1) >> 4).astype(np.uint8)


def _enlarge_integers(levels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Doubles the rows by linear interpolation; the values are multiplied by 4."""
    padded = np.concatenate([levels[:1], levels, levels[-1:]])
    out = np.empty((2 * levels.shape[0], levels.shape[1]), np.uint16)
    near = levels * np.uint16(3)
    out[0::2] = near + padded[:-2]
    out[1::2] = near + padded[2:]
    return out


def engrave(x: Points, y: Points) -> Field:
    """Returns 1 on each pixel of the LINES grid that contains a point, 0 elsewhere.

    In `x` and `y`, 0 and 1 are the picture's edges.
    """
    column, row = np.floor(x * LINES).astype(np.int64), np.floor(y * LINES).astype(np.int64)
    inside = (column >= 0) & (column < LINES) & (row >= 0) & (row < LINES)
    out = np.zeros(LINES * LINES, np.float32)
    out[row[inside] * LINES + column[inside]] = 1
    return out.reshape(LINES, LINES)


def wander(
    random: np.random.Generator,
    start: tuple[Points, Points],
    heading: tuple[Points, Points],
    steps: int,
    turn: float,
) -> tuple[Points, Points]:
    """Returns random paths of walkers that step half a LINES pixel at a time.

    Args:
        random: source of the turns.
        start: u and v of each walker, (n,).
        heading: their first directions, (n,) each, of any length but 0.
        steps: number of steps of each walker.
        turn: greatest change of either component of the direction in a step.

    Returns:
        u and v, (steps, n) each.

    Args:
        random: where the turns come from.
        start: u and v of each walker, (n,).
        heading: their first directions, (n,) each, of any length but 0.
        steps: steps of each walker.
        turn: greatest change of either part of the direction in a step.

    Returns:
        u and v, (steps, n) each.
    """
    u, v = start
    du, dv = heading
    turns = (random.random((2, steps, u.size)) - 0.5) * (2 * turn)
    us, vs = np.empty((steps, u.size)), np.empty((steps, u.size))
    for step in range(steps):
        du, dv = du + turns[0, step], dv + turns[1, step]
        length = np.sqrt(du * du + dv * dv) + 1e-6
        du, dv = du / length, dv / length
        u, v = u + du * (0.5 / LINES), v + dv * (0.5 / LINES)
        us[step], vs[step] = u, v
    return us, vs
