"""Smooth filled shapes as complex numbers (x + iy, y pointing down), collected in a sketch, painted at any size.

Multiplying by a complex number turns and scales a shape, adding one moves it; so a posture is a few products.
A sketch holds only polygons and colours; ``paint`` draws them enlarged and averages (anti-aliasing).
"""

from __future__ import annotations

import cmath
import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.complex128]
RGB = tuple[int, int, int]
Shape = tuple[Points, tuple[int, ...]]  # a polygon, and its colour with or without alpha


@lru_cache(maxsize=64)
def _circle(n: int) -> Points:
    return np.exp(2j * np.pi * np.arange(n) / n)


@lru_cache(maxsize=64)
def _spline(corners: int, steps: int) -> NDArray[np.float64]:
    """Closed Catmull-Rom spline as a matrix: (corners * steps, corners)."""
    t = np.arange(steps)[:, None] / steps
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    matrix = np.zeros((corners * steps, corners))
    for i in range(corners):
        for k in range(4):
            matrix[i * steps : (i + 1) * steps, (i + k - 1) % corners] += weights[:, k]
    return matrix


def ellipse(centre: complex, rx: float, ry: float | None = None, turn: float = 0.0, n: int = 28) -> Points:
    z = _circle(n)
    z = rx * z if ry is None else rx * z.real + 1j * ry * z.imag
    return centre + (z * cmath.exp(1j * turn) if turn else z)


def blob(corners: Sequence[complex], steps: int = 5) -> Points:
    """Smooth closed curve through the corners."""
    return _spline(len(corners), steps) @ np.array(corners)


def polygon(*corners: complex) -> Points:
    return np.array(corners, dtype=complex)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return polygon(complex(left, top), complex(right, top), complex(right, bottom), complex(left, bottom))


def limb(points: Sequence[complex], widths: Sequence[float]) -> Points:
    """A tapering band along a line, with round ends."""
    z, w = np.array(points, dtype=complex), np.array(widths) / 2
    steps = np.diff(z)
    steps /= np.maximum(np.abs(steps), 1e-9)
    along = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    along /= np.maximum(np.abs(along), 1e-9)
    side = 1j * along * w
    cap = np.exp(1j * np.pi * np.array([0.25, 0.5, 0.75]))
    end = z[-1] + side[-1] * np.conj(cap)
    start = z[0] - side[0] * np.conj(cap)
    return np.concatenate([z + side, end, (z - side)[::-1], start])


def curve(points: Sequence[complex], n: int = 12) -> Points:
    """Points on the Bezier curve with these control points (de Casteljau)."""
    t = np.linspace(0, 1, n)[:, None]
    z = np.array(points, dtype=complex)[None, :] + 0j * t
    while z.shape[1] > 1:
        z = z[:, :-1] * (1 - t) + z[:, 1:] * t
    return z[:, 0]


def stroke(points: Sequence[complex], width: float, taper: float = 1.0, n: int = 12) -> Points:
    """A brush stroke along a Bezier curve."""
    z = curve(points, n)
    return limb(z, np.linspace(width, width * taper, n))  # type: ignore[arg-type]


def grow(z: Points, by: float) -> Points:
    """The same closed shape, ``by`` larger on every side."""
    after = np.concatenate([z[1:], z[:1]])  # np.roll would take a fifth of the drawing time
    along = after - np.concatenate([z[-1:], z[:-1]])
    area = np.sum(z.real * after.imag - z.imag * after.real)
    outward = along / np.maximum(np.abs(along), 1e-9) * (-1j if area > 0 else 1j)
    return z + by * outward


@dataclass(frozen=True)
class Light:
    """How a colour looks at a time of day and a distance: tinted, then blended with haze."""

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: str = "#ffffff"
    depth: float = 0.0  # 0: near; 1: only haze

    def far(self, depth: float) -> Light:
        return Light(self.tint, self.haze, depth)


@lru_cache(maxsize=65536)
def lit(colour: str, light: Light) -> RGB:
    """A colour in a light."""
    haze = rgb(light.haze)
    return tuple(
        round(min(255.0, c * t) * (1 - light.depth) + h * light.depth)
        for c, t, h in zip(rgb(colour), light.tint, haze, strict=True)
    )  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def rgb(colour: str) -> RGB:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@lru_cache(maxsize=4096)
def shade(colour: str, by: float) -> str:
    """A lighter (by > 0) or darker (by < 0) colour; darker ones are a little more saturated, as with paint."""
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb(colour)))
    if by < 0:
        s, v = min(1.0, s * (1 - by * 0.4)), v * (1 + by)
    else:
        s, v = s * (1 - by), v + (1 - v) * by
    return "#" + "".join(f"{round(c * 255):02x}" for c in colorsys.hsv_to_rgb(h, s, v))


@dataclass
class Sketch:
    """A list of coloured polygons, and the position, rotation and light in which the next ones are drawn."""

    shapes: list[Shape] = field(default_factory=list)
    light: Light = Light()
    origin: complex = 0j
    factor: complex = 1 + 0j
    mirrored: bool = False

    def at(self, origin: complex, scale: complex = 1, mirrored: bool = False, light: Light | None = None) -> Sketch:
        """The same list, with an origin, scale (a complex one also rotates) and direction relative to this sketch's."""
        if self.mirrored:
            origin, scale = -origin.conjugate(), complex(scale).conjugate()
        return Sketch(
            self.shapes,
            light or self.light,
            self.origin + self.factor * origin,
            self.factor * scale,
            self.mirrored != mirrored,
        )

    def place(self, z: complex) -> complex:
        """The position in the picture of a point of this sketch."""
        return self.origin + self.factor * (-z.conjugate() if self.mirrored else z)

    def fill(self, z: Points, colour: str, alpha: float = 1.0) -> None:
        ink = lit(colour, self.light)
        points = self.origin + self.factor * (-z.conj() if self.mirrored else z)
        self.shapes.append((points, ink if alpha >= 1 else (*ink, round(255 * alpha))))

    def outline(self, since: int, colour: str, width: float) -> None:
        """Put a line of this width, in picture units, around every opaque shape from number ``since`` on."""
        ink = lit(colour, self.light)
        drawn = self.shapes[since:]
        self.shapes[since:] = [(grow(z, width), ink) for z, c in drawn if len(c) == 3] + drawn


def paint(shapes: Sequence[Shape], size: int) -> Image.Image:
    """Draw polygons of the unit square at size x size pixels."""
    over = 4 if size <= 96 else 3 if size <= 256 else 2
    image = Image.new("RGB", (size * over, size * over))
    solid, glazed = ImageDraw.Draw(image), ImageDraw.Draw(image, "RGBA")
    flat = (np.concatenate([z for z, _ in shapes]) * (size * over)).view(np.float64).tolist()
    start = 0
    for z, ink in shapes:
        end = start + 2 * len(z)
        (solid if len(ink) == 3 else glazed).polygon(flat[start:end], fill=ink)
        start = end
    return image.reduce(over)
