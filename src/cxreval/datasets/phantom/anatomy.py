"""The healthy chest: its measures, their variation, and its drawing.

Body coordinates: u runs from the midline to the right of the picture (the patient's left), v
downwards; one unit is `FIELD_MM`. `side` is -1 for the lung on the left of the picture (the
patient's right) and +1 for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxreval.datasets.phantom.canvas import (
    LINES,
    SHAPES,
    Field,
    Points,
    cloud_window,
    ellipse,
    engrave,
    enlarge,
    pixel_centers,
    smoothstep,
    soften,
    stream,
    stripe,
    wander,
)
from cxreval.datasets.phantom.cohort import Study

FIELD_MM = 358.4
"""Width and height of a picture in millimetres: 1024 pixels of 0.35 mm."""

HILUM = (0.085, 0.44)
"""Distance of the roots of the lungs from the midline, and their v."""

_ANATOMY, _EXPOSURE, _VESSELS = 20, 21, 22  # keys of the random streams


@dataclass(frozen=True, slots=True)
class Thorax:
    """A patient's measures in one image. Findings that change shapes replace some of them."""

    half_width: float
    """Distance from the midline to the widest point of a lung."""
    apex: float
    """v of the top of the lungs."""
    domes: tuple[float, float]
    """v of the two domes of the diaphragm, picture left and right."""
    arch: float
    """Height of a dome above its costophrenic angle."""
    heart_width: float
    """Half the width of the heart."""
    heart_center: float
    """u of the heart's center."""
    heart_base: float
    """v of the heart's center."""
    aorta: float
    """Radius of the aortic knob."""
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    fat: float
    """Amount of soft tissue outside the rib cage, 0 to 1."""
    breasts: float
    """Density of breast shadows; 0 in men."""
    vessels: float
    """Contrast of the lung vessels; about 1."""
    air: float
    """Extra darkness of the lungs; about 0."""
    hila: float
    """Density of the roots of the lungs."""
    stomach: float
    """Darkness of the gas bubble under the left dome."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Position, exposure and grain of one image."""

    shift_u: float
    shift_v: float
    zoom: float
    tilt: float
    contrast: float
    brightness: float
    gamma: float
    penetration: float
    noise: float
    grain: tuple[float, float]


def measure(seed: int, study: Study) -> Thorax:
    """Returns the patient's anatomy, with the depth of breath and the projection of this image."""
    r = stream(seed, _ANATOMY, study.patient).random(16).tolist()
    now = stream(seed, _ANATOMY, study.patient, study.follow_up).random(4).tolist()
    supine = study.view == "AP"  # shallower breath, and a heart further from the detector
    breath = 0.035 * (now[0] - 0.5) + (0.025 if supine else 0.0)
    dome = 0.685 + 0.07 * (r[1] - 0.5) - breath
    return Thorax(
        half_width=0.345 + 0.05 * (r[0] - 0.5),
        apex=0.135 + 0.03 * (r[2] - 0.5),
        domes=(dome, dome + 0.012 + 0.025 * r[3]),
        arch=0.075 + 0.045 * r[4],
        heart_width=(0.132 + 0.036 * r[5])
        * (1.1 if supine else 1.0)
        * (1.0 + 0.04 * (now[1] - 0.5)),
        heart_center=0.040 + 0.02 * (r[6] - 0.5),
        heart_base=dome - 0.075 + 0.02 * (now[2] - 0.5),
        aorta=0.034 + 0.012 * r[7],
        rib_spacing=0.062 + 0.008 * (r[8] - 0.5),
        rib_phase=r[9],
        rib_slope=0.115 + 0.05 * (r[10] - 0.5),
        fat=r[11],
        breasts=0.03 + 0.05 * r[12] if study.gender == "F" else 0.0,
        vessels=0.75 + 0.5 * r[13],
        air=0.07 * (r[14] - 0.5),
        hila=0.045 + 0.06 * r[15],
        stomach=max(0.0, now[3] - 0.4) * 0.25,
    )


def expose(seed: int, study: Study) -> Exposure:
    """Returns position, exposure and grain of this image."""
    r = stream(seed, _EXPOSURE, study.patient, study.follow_up).random(11).tolist()
    supine = study.view == "AP"
    return Exposure(
        shift_u=0.05 * (r[0] - 0.5),
        shift_v=0.05 * (r[1] - 0.5),
        zoom=0.93 + 0.16 * r[2],
        tilt=(0.12 if supine else 0.05) * (r[3] - 0.5),
        contrast=0.80 + 0.20 * r[4],
        brightness=0.10 * (r[5] - 0.5),
        gamma=0.15 + 0.6 * r[6],
        penetration=0.9 + 0.2 * r[7],
        noise=1.0 + 2.0 * r[8] + (1.0 if supine else 0.0),
        grain=(r[9], r[10]),
    )


class Chest:
    """One chest in a picture: soft shapes on the SHAPES grid, then lines on the LINES grid."""

    def __init__(self, thorax: Thorax, exposure: Exposure) -> None:
        self.thorax = thorax
        self.exposure = exposure
        self.u, self.v = self.coordinates(SHAPES)
        self.across = np.abs(self.u)
        self.wall = self.wall_at(self.v)
        self.body = self._body()
        self.lungs = {side: self.lung(side) for side in (-1, 1)}
        self.lines = np.zeros((LINES, LINES), np.float32)
        """Density of thin structures that findings add, on the LINES grid."""
        self.airless = np.ones((SHAPES, SHAPES), np.float32)
        """Share of the vessel markings that is visible."""

    def coordinates(self, side: int) -> tuple[Field, Field]:
        """Returns u and v of every pixel of a grid."""
        x, y = pixel_centers(side)
        e = self.exposure
        v = (y - (0.5 + e.shift_v)) * e.zoom + 0.5
        u = (x - (0.5 + e.shift_u)) * e.zoom + (y - 0.5) * e.tilt
        return u, np.broadcast_to(v, (side, side))

    def on_film(self, u: Points, v: Points) -> tuple[Points, Points]:
        """Returns x and y in the picture, 0 to 1, of points of the body; inverts `coordinates`."""
        e = self.exposure
        y = (v - 0.5) / e.zoom + 0.5 + e.shift_v
        return (u - (y - 0.5) * e.tilt) / e.zoom + 0.5 + e.shift_u, y

    def wall_at(self, v: Field, inset: float | Field = 0.0) -> Field:
        """Returns the distance of the inner rib cage from the midline.

        With `inset`, it is that of a smaller lung inside the rib cage.
        """
        t = self.thorax
        top = t.apex - 0.045
        down: Field = np.clip((v - top - inset) * (1.0 / (0.70 - top)), 0, 1)
        width: Field = np.sqrt(down * (2.0 - down)) * t.half_width
        return width - inset

    def diaphragm(self, side: int) -> Field:
        """Returns v of the dome under each pixel."""
        t = self.thorax
        away = (self.across - 0.15) * (1.0 / (t.half_width - 0.15))
        outer = np.maximum(away, 0)
        return t.domes[side > 0] + t.arch * (outer * outer) + (0.12 * t.arch) * (away * away)

    def lung(self, side: int, inset: float | Field = 0.0) -> Field:
        """Returns 1 where there is lung, 0 elsewhere.

        With `inset`, the lung is that much smaller at the wall and the top.
        """
        t = self.thorax
        lateral = self.wall_at(self.v, inset) - self.across
        medial = self.u * side - 0.045
        offset = self.across - 0.13
        below_apex = self.v - (t.apex + inset) - 2.2 * (offset * offset)
        above_dome = self.diaphragm(side) - self.v
        return (
            smoothstep(0.0, 0.012, lateral)
            * smoothstep(0.0, 0.05, medial)
            * smoothstep(0.0, 0.02, below_apex)
            * smoothstep(-0.004, 0.008, above_dome)
        )

    @cached_property
    def both_lungs(self) -> Field:
        """1 where there is lung on either side."""
        return self.lungs[-1] + self.lungs[1]

    @cached_property
    def heart(self) -> Field:
        """1 where the heart is: a tilted egg on the diaphragm, and an ellipse as right atrium."""
        t = self.thorax
        lean = self.u + (self.v - t.heart_base) * -0.35
        width = t.heart_width
        ventricles = ellipse(
            lean, self.v, (t.heart_center + 0.012, t.heart_base), (width * 0.94, 0.145), 0.30
        )
        atrium = ellipse(
            self.u,
            self.v,
            (t.heart_center - 0.45 * width, t.heart_base),
            (width * 0.55, 0.105),
            0.35,
        )
        lower_dome = np.maximum(self.diaphragm(-1), self.diaphragm(1))
        return np.maximum(ventricles, atrium) * smoothstep(0.03, 0.0, self.v - lower_dome)

    def _body(self) -> Field:
        """Returns 1 inside the skin: torso, shoulders and neck, without the gap under the arms."""
        t = self.thorax
        shoulders = self.v - (np.maximum(self.across - 0.13, 0) * 0.42 + (-0.02 - 0.05 * t.fat))
        neck = 0.125 + 0.03 * t.fat - self.across
        trunk = t.half_width + 0.055 + 0.05 * t.fat + (self.v - 0.6) * 0.08 - self.across
        arm = self.v - 0.40 - 0.05 * t.fat - np.maximum(-trunk, 0) * 2.5
        arm_pit = np.minimum(arm, -trunk)
        upper = np.maximum(smoothstep(0.0, 0.03, shoulders), smoothstep(0.0, 0.02, neck))
        return upper * smoothstep(0.012, -0.012, arm_pit)

    def soft_tissue(self) -> Field:
        """Returns the density of all healthy soft tissue on the SHAPES grid."""
        t = self.thorax
        across, v = self.across, self.v
        density: Field = self.body * (0.52 + 0.06 * t.fat + smoothstep(0.3, 1.0, v) * 0.08)
        density = density * (0.55 + 0.45 * smoothstep(-0.10, 0.05, t.half_width + 0.09 - across))
        for side in (-1, 1):
            density += smoothstep(-0.006, 0.02, v - self.diaphragm(side)) * (
                smoothstep(-0.01, 0.02, self.u * side)
                * smoothstep(0.03, -0.01, across - self.wall)
                * 0.22
            )
        density -= self.both_lungs * (0.37 + t.air) * (1.0 - 0.25 * smoothstep(0.45, 0.75, v))
        density += self._mediastinum()
        if t.breasts:
            lower = ellipse(across, v, (0.20, 0.68), (0.17, 0.18), 0.35)
            density += lower * t.breasts
        if t.stomach:
            bubble = ellipse(self.u, v, (0.17, t.domes[1] + 0.055), (0.06, 0.032), 0.5)
            density -= bubble * t.stomach
        return density

    def _mediastinum(self) -> Field:
        """Returns the density of heart, great vessels, aortic knob, hila, spine and trachea."""
        t = self.thorax
        u, v, across = self.u, self.v, self.across
        spine = stripe(u, 0.026, 0.03) * 0.11
        discs = v * (1 / 0.058)
        gap = np.abs(discs - np.floor(discs) - 0.5)
        spine = spine * (1.0 - 0.2 * smoothstep(0.34, 0.46, gap))
        vessels = stripe(u - 0.004, 0.040, 0.035) * smoothstep(0.05, 0.28, v) * 0.22
        base = t.heart_base - 0.13
        slant = stripe(u - 0.015 - 0.06 * (v - 0.33), 0.062, 0.03)
        trunk = slant * smoothstep(0.29, 0.40, v) * smoothstep(base + 0.14, base, v) * 0.24
        knob = ellipse(u, v, (0.046, 0.335), (t.aorta, t.aorta * 1.1), 0.6) * 0.24
        middle: Field = np.maximum(np.maximum(self.heart * 0.27, vessels), np.maximum(trunk, knob))
        hila = ellipse(across, v, HILUM, (0.040, 0.065), 1.3) * t.hila
        windpipe = stripe(u + 0.004, 0.017, 0.012) * smoothstep(0.36, 0.28, v) * 0.11
        return (spine + middle + hila - windpipe) * self.body

    def bones(self) -> Field:
        """Returns the density of ribs, clavicles and shoulder blades on the LINES grid."""
        t = self.thorax
        u, v = self.coordinates(LINES)
        across = np.abs(u)
        wall = enlarge(self.wall)
        along = across / np.maximum(wall, 0.08)
        cage = smoothstep(0.035, 0.0, across - wall) * smoothstep(0.04, 0.07, across)
        cage = cage * smoothstep(t.apex - 0.01, t.apex + 0.02, v)
        back = v - (t.rib_slope * (along * along) - 0.03 * along) - (t.rib_phase * t.rib_spacing)
        front = v + (0.16 * along * along) - (t.rib_spacing * (t.rib_phase + 0.37))
        density = self._ribs(back, t.rib_spacing, 0.012) * 0.08
        reach = smoothstep(0.35, 0.75, along) * smoothstep(0.22, 0.34, v)
        density += self._ribs(front, t.rib_spacing * 1.18, 0.0125) * reach * 0.05
        density *= cage * (1.0 - 0.8 * smoothstep(-0.02, 0.05, v - enlarge(self.diaphragm(1))))
        density += stripe(across - wall - 0.010, 0.004, 0.012) * smoothstep(0.14, 0.3, v) * 0.07
        density += self._clavicles(across, v) + self._shoulder_blades(across, v)
        return density

    @staticmethod
    def _ribs(height: Field, spacing: float, half_width: float) -> Field:
        """Returns parallel bands whose cortex is brighter than their middle."""
        turns = height * (1.0 / spacing)
        distance = np.abs(turns - np.floor(turns) - 0.5) * spacing
        return smoothstep(half_width + 0.003, half_width - 0.002, distance) * (
            0.65 + 0.35 * smoothstep(half_width * 0.45, half_width, distance)
        )

    @staticmethod
    def _clavicles(across: Field, v: Field) -> Field:
        t = np.clip((across - 0.03) * (1 / 0.33), 0, 1)
        middle = 0.255 - 0.21 * t + 0.09 * t * t
        bone = stripe(v - middle, 0.010, 0.004) * (
            0.7 + 0.3 * smoothstep(0.004, 0.011, np.abs(v - middle))
        )
        return bone * smoothstep(0.024, 0.034, across) * smoothstep(0.42, 0.40, across) * 0.11

    @staticmethod
    def _shoulder_blades(across: Field, v: Field) -> Field:
        border = across - (0.345 - 0.10 * (v - 0.2))
        blade = (
            smoothstep(0.0, 0.01, border) * smoothstep(0.12, 0.19, v) * smoothstep(0.56, 0.44, v)
        )
        edge = (
            stripe(border - 0.006, 0.003, 0.006)
            * smoothstep(0.56, 0.5, v)
            * smoothstep(0.16, 0.2, v)
        )
        head = ellipse(across, v, (0.475, 0.20), (0.06, 0.065), 0.4)
        return blade * 0.05 + edge * 0.04 + head * 0.05

    def markings(self, seed: int, patient: int) -> Field:
        """Returns the density of lung vessels on the LINES grid: winding paths from the hila."""
        random = stream(seed, _VESSELS, patient)
        walkers, steps = 34, 230
        r = random.random((4, 2 * walkers))
        side = np.repeat(np.array([-1.0, 1.0]), walkers)
        start = (side * (HILUM[0] + 0.03 * (r[0] - 0.5)), HILUM[1] + 0.07 * (r[1] - 0.5))
        heading = (side * (0.25 + r[2]), 2.6 * (r[3] - 0.44))
        us, vs = wander(random, start, heading, steps, turn=0.10)
        x, y = self.on_film(us, vs)
        thick = soften(soften(engrave(x[:70], y[:70])))
        medium = soften(engrave(x[:150], y[:150]))
        fine = soften(engrave(x, y))
        cloud = enlarge(cloud_window(5, *random.random(2).tolist())) - 0.5
        show = enlarge(self.both_lungs * self.airless) * self.thorax.vessels
        density: Field = thick * 0.06 + medium * 0.05 + fine * 0.035 + cloud * 0.09
        return density * show
