"""The 14 findings: how each changes the measures of the chest, and what it adds to the picture.

A finding has the same side, position and form in all images of a patient. Its severity also varies
from image to image, from hardly visible to plain, so that not every case can be detected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.phantom.anatomy import HILUM, Chest, Thorax
from cxreval.datasets.phantom.canvas import (
    Field,
    cloud_window,
    ellipse,
    engrave,
    smoothstep,
    soften,
    stream,
    wander,
)
from cxreval.datasets.phantom.cohort import Study

_PRESENTATION, _TEXTURE = 30, 31  # keys of the random streams


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of a finding in one image."""

    severity: float
    """From 0 (hardly visible) to 1 (plain)."""
    side: int
    """-1 for the left of the picture, +1 for its right."""
    variation: tuple[float, ...]
    """Six numbers in [0, 1) for position and form; the same for all images of the patient."""
    texture: np.random.Generator
    """Generator for findings made of many lines; the same for all images of the patient."""

    def between(self, faint: float, plain: float) -> float:
        """Interpolates between two strengths or sizes by severity."""
        return faint + (plain - faint) * self.severity


def look(seed: int, study: Study, finding: str) -> Look:
    """Returns the appearance of `finding` in this study."""
    number = FINDINGS.index(finding)
    base, side, *variation = stream(seed, _PRESENTATION, number, study.patient).random(8).tolist()
    now = stream(seed, _PRESENTATION, number, study.patient, study.follow_up).random()
    texture = stream(seed, _TEXTURE, number, study.patient)
    return Look(0.6 * base + 0.4 * now, -1 if side < 0.5 else 1, tuple(variation), texture)


# --- shapes ---------------------------------------------------------------------------------------


def _less_volume(thorax: Thorax, look: Look) -> Thorax:
    """Atelectasis: the diaphragm rises on its side."""
    rise = look.between(0.005, 0.05)
    left, right = thorax.domes
    return replace(thorax, domes=(left - rise, right) if look.side < 0 else (left, right - rise))


def _large_heart(thorax: Thorax, look: Look) -> Thorax:
    width = thorax.heart_width * look.between(1.05, 1.5)
    return replace(
        thorax,
        heart_width=width,
        heart_center=thorax.heart_center + 0.25 * (width - thorax.heart_width),
    )


def _congestion(thorax: Thorax, look: Look) -> Thorax:
    return replace(thorax, vessels=thorax.vessels * look.between(1.02, 1.45))


def _overinflation(thorax: Thorax, look: Look) -> Thorax:
    """Emphysema: dark lungs with few vessels, a low flat diaphragm, a narrow heart."""
    drop = look.between(0.0, 0.055)
    return replace(
        thorax,
        domes=(thorax.domes[0] + drop, thorax.domes[1] + drop),
        arch=thorax.arch * look.between(1.0, 0.25),
        heart_width=thorax.heart_width * look.between(1.0, 0.78),
        vessels=thorax.vessels * look.between(1.0, 0.5),
        air=thorax.air + look.between(0.0, 0.07),
    )


SHAPES_OF: dict[str, Callable[[Thorax, Look], Thorax]] = {
    "Atelectasis": _less_volume,
    "Cardiomegaly": _large_heart,
    "Edema": _congestion,
    "Emphysema": _overinflation,
}
"""Functions of the findings that change the chest's measures."""


# --- densities ------------------------------------------------------------------------------------


def _atelectasis(chest: Chest, look: Look) -> Field:
    """A plate of density above the raised dome, and haze at that base."""
    dome = chest.thorax.domes[look.side > 0]
    slope = 0.5 * (look.variation[0] - 0.5)
    middle = dome - 0.035 - 0.06 * look.variation[1]
    off = chest.v - (middle + (chest.across - 0.18) * slope)
    half_width = look.between(0.006, 0.016)
    plate = smoothstep(half_width + 0.007, half_width, np.abs(off)) * smoothstep(
        0.05, 0.09, chest.across
    )
    haze = smoothstep(dome - 0.12, dome + 0.03, chest.v)
    return chest.lungs[look.side] * (
        plate * smoothstep(0.34, 0.24, chest.across) * look.between(0.03, 0.16)
        + haze * look.between(0.01, 0.10)
    )


def _effusion(chest: Chest, look: Look) -> Field:
    """Fluid that fills the costophrenic angle and climbs along the wall.

    It is on both sides in a third of the patients.
    """
    density = np.zeros_like(chest.u)
    for side in (-1, 1) if look.variation[0] < 0.33 else (look.side,):
        angle = chest.thorax.domes[side > 0] + chest.thorax.arch
        level = angle - look.between(0.005, 0.24) * (1.0 if side == look.side else 0.6)
        out = chest.across * (1.0 / chest.thorax.half_width)
        meniscus = level + 0.02 - look.between(0.02, 0.09) * (out * out * out * out)
        density += chest.lungs[side] * smoothstep(-0.008, 0.03, chest.v - meniscus)
    return density * look.between(0.06, 0.33)


def _patches(look: Look, octaves: int, share: float) -> Field:
    """Returns clouds with soft borders that cover about `share` of the picture."""
    cloud = cloud_window(octaves, look.variation[4], look.variation[5])
    return smoothstep(0.98 - share, 1.18 - share, cloud)


def _infiltration(chest: Chest, look: Look) -> Field:
    """Faint patches in the middle and lower lungs, often on both sides."""
    zone = ellipse(
        chest.across, chest.v, (0.18, 0.48 + 0.14 * look.variation[0]), (0.16, 0.17), 1.2
    )
    other = 0.8 if look.variation[1] < 0.5 else 0.1
    sides = chest.lungs[look.side] + chest.lungs[-look.side] * other
    return zone * sides * _patches(look, 4, 0.55) * look.between(0.025, 0.14)


def _round(chest: Chest, side: int, variation: tuple[float, ...], radius: float) -> Field:
    """A round shadow inside a lung, a little lobed."""
    center = (side * (0.11 + 0.13 * variation[0]), 0.30 + 0.28 * variation[1])
    lobes = 1.0 + 0.35 * (cloud_window(3, variation[2], variation[3]) - 0.5)
    du, dv = chest.u - center[0], chest.v - center[1]
    distance = (du * du + dv * dv) * (1.0 / (radius * radius)) * lobes
    return smoothstep(1.2, 0.75, distance)


def _mass(chest: Chest, look: Look) -> Field:
    """Round, dense, 32 to 75 mm across."""
    radius = look.between(0.045, 0.08) + 0.025 * look.variation[4]
    inside = smoothstep(0.01, -0.01, chest.across - chest.wall)
    return _round(chest, look.side, look.variation, radius) * inside * look.between(0.06, 0.26)


def _nodule(chest: Chest, look: Look) -> Field:
    """One to three round shadows of 8 to 28 mm."""
    radius = look.between(0.012, 0.026) + 0.013 * look.variation[4]
    shadow = _round(chest, look.side, look.variation, radius)
    a, b, c, d, _, count = look.variation
    if count > 0.5:
        shadow = np.maximum(shadow, _round(chest, -look.side, (b, c, d, a), radius * 0.8))
    if count > 0.8:
        shadow = np.maximum(shadow, _round(chest, look.side, (c, d, a, b), radius * 0.7))
    return shadow * look.between(0.05, 0.20)


def _pneumonia(chest: Chest, look: Look) -> Field:
    """A patchy focus in one lobe."""
    center = (look.side * (0.14 + 0.10 * look.variation[0]), 0.36 + 0.26 * look.variation[1])
    focus = ellipse(chest.u, chest.v, center, (0.10 + 0.03 * look.variation[2], 0.10), 1.3)
    return (
        focus
        * chest.lungs[look.side]
        * (0.3 + 0.7 * _patches(look, 5, 0.6))
        * look.between(0.05, 0.26)
    )


def _pneumothorax(chest: Chest, look: Look) -> Field:
    """Air between wall and lung, widest at the apex.

    It is darker than lung, has no vessels, and is bounded by a thin bright line.
    """
    apex = chest.thorax.apex
    inset = look.between(0.018, 0.085) * smoothstep(
        apex + 0.45 + 0.15 * look.variation[0], apex, chest.v
    )
    lung = chest.lungs[look.side]
    collapsed = np.minimum(chest.lung(look.side, inset), lung)
    air = lung - collapsed
    chest.airless *= 1.0 - air
    pleura = 4.0 * collapsed * (1.0 - collapsed) * smoothstep(0.004, 0.012, inset) * lung
    return pleura * look.between(0.03, 0.12) - air * look.between(0.03, 0.13)


def _consolidation(chest: Chest, look: Look) -> Field:
    """A dense, even part of a lobe that ends sharply at a fissure."""
    fissure = (
        0.36 + 0.18 * look.variation[0] + (chest.across - 0.15) * (0.3 * (look.variation[1] - 0.5))
    )
    upper = look.variation[2] < 0.35
    below = chest.v - fissure if not upper else fissure - chest.v
    depth = look.between(0.07, 0.20)
    lobe = smoothstep(-0.004, 0.008, below) * smoothstep(depth + 0.03, depth - 0.03, below)
    reach = smoothstep(0.24, 0.06, np.abs(chest.across - (0.14 + 0.12 * look.variation[3])))
    return lobe * reach * chest.lungs[look.side] * look.between(0.07, 0.30)


def _edema(chest: Chest, look: Look) -> Field:
    """Haze around both hila, like the wings of a bat."""
    wings = ellipse(chest.across, chest.v, (HILUM[0] + 0.06, HILUM[1] + 0.04), (0.15, 0.19), 1.9)
    uneven = 0.4 + 1.2 * cloud_window(4, look.variation[4], look.variation[5])
    return wings * uneven * chest.both_lungs * look.between(0.005, 0.13)


def _fibrosis(chest: Chest, look: Look) -> Field:
    """A net of short lines at both bases, near the wall, on a little haze."""
    count = int(look.between(150, 420))
    r = look.texture.random((4, count))
    side = np.where(r[0] < 0.5, -1.0, 1.0)
    dome = chest.thorax.domes[0]
    start = (side * (0.10 + 0.22 * np.sqrt(r[1])), dome + 0.07 - 0.26 * r[2] * np.sqrt(r[2]))
    us, vs = wander(look.texture, start, (r[3] - 0.5, r[0] - r[1]), steps=34, turn=0.35)
    net = soften(engrave(*chest.on_film(us, vs)))
    lungs = np.repeat(np.repeat(chest.both_lungs, 2, 0), 2, 1)
    chest.lines += net * lungs * look.between(0.05, 0.17)
    return (
        smoothstep(dome - 0.20, dome + 0.05, chest.v) * chest.both_lungs * look.between(0.01, 0.05)
    )


def _pleural_thickening(chest: Chest, look: Look) -> Field:
    """A bright uneven rim along the lateral wall."""
    uneven = 0.6 + 0.8 * cloud_window(3, look.variation[4], look.variation[5])
    depth = (chest.wall - chest.across) * (1.0 / look.between(0.014, 0.050))
    start = 0.25 + 0.25 * look.variation[0]
    stretch = smoothstep(start, start + 0.06, chest.v) * smoothstep(
        start + 0.42, start + 0.28, chest.v
    )
    rim = smoothstep(1.15, 0.75, depth / uneven) * stretch
    return rim * chest.lungs[look.side] * look.between(0.06, 0.34)


def _hernia(chest: Chest, look: Look) -> Field:
    """Part of the stomach behind the heart: a rounded wall, with gas above a level of fluid."""
    radius = look.between(0.045, 0.085)
    u, v = 0.01 + 0.05 * look.variation[0], chest.thorax.domes[1] - 0.03 - 0.5 * radius
    du, dv = chest.u - u, chest.v - v
    squared = (du * du + dv * dv) * (1.0 / (radius * radius))
    sac = smoothstep(1.1, 0.9, squared)
    wall = sac * smoothstep(0.6, 0.85, squared)
    fluid = smoothstep(-0.006, 0.006, dv - radius * (0.5 * look.variation[1] - 0.2))
    return wall * look.between(0.03, 0.12) - (sac - wall) * (1.0 - 1.3 * fluid) * look.between(
        0.03, 0.15
    )


DENSITY_OF: dict[str, Callable[[Chest, Look], Field]] = {
    "Atelectasis": _atelectasis,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Fibrosis": _fibrosis,
    "Pleural_Thickening": _pleural_thickening,
    "Hernia": _hernia,
}
"""Functions of the findings that add to the soft tissue's density.

Some of them also change the chest's `lines` and `airless`.
"""
