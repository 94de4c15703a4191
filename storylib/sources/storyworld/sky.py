"""The hour and the weather: light, sky, mist and precipitation."""

from __future__ import annotations

import cmath
from dataclasses import dataclass

import numpy as np

from storylib.sources.storyworld.shapes import Light, Points, Sketch, box, ellipse, polygon, shade, stroke
from storylib.sources.storyworld.world import Dice


@dataclass(frozen=True)
class Sky:
    """Colours of a time of day: of the sky from top to horizon, and of the light."""

    top: str
    middle: str
    bottom: str
    near: tuple[float, float, float]  # tint of figures
    land: tuple[float, float, float]  # tint of places
    lamps: bool = False  # windows shine


SKIES = {
    "morning": Sky("#9fd0ea", "#fbe3c4", "#ffd2a8", (1.02, 0.98, 0.93), (1.03, 0.97, 0.9)),
    "midday": Sky("#5fb4e8", "#a5dbf5", "#e4f5f7", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "evening": Sky("#6d5b9e", "#e88d7d", "#ffc27a", (1.0, 0.88, 0.82), (0.95, 0.76, 0.7), True),
    "night": Sky("#141c42", "#27356b", "#4a5d96", (0.8, 0.83, 1.0), (0.48, 0.55, 0.82), True),
}
CLOUDS = {"clear": 1, "windy": 3, "cloudy": 6, "foggy": 2, "rainy": 7, "stormy": 8, "snowy": 6}
OVERCAST = {"night": "#2c3452", "evening": "#8a788c"}
STORMY = {"night": "#20263e", "evening": "#5f5468"}
SNOW = {"morning": "#fdf4ee", "midday": "#ffffff", "evening": "#e8d5dc", "night": "#7f8fbe"}
GREYS = {"cloudy": 0.35, "foggy": 0.45, "rainy": 0.62, "stormy": 0.8, "snowy": 0.5, "windy": 0.08, "clear": 0.0}


def mix(a: str, b: str, share: float) -> str:
    """A colour between a (share 0) and b (share 1)."""
    pairs = zip((a[1:3], a[3:5], a[5:7]), (b[1:3], b[3:5], b[5:7]), strict=True)
    return "#" + "".join(f"{round(int(x, 16) * (1 - share) + int(y, 16) * share):02x}" for x, y in pairs)


@dataclass(frozen=True)
class Air:
    """The light of one scene."""

    sky: Sky
    time: str
    weather: str

    @classmethod
    def of(cls, time: str, weather: str) -> Air:
        base, grey = SKIES[time], GREYS[weather]
        tone = OVERCAST.get(time, "#b3bec9") if weather != "stormy" else STORMY.get(time, "#7f8a9c")
        dim = 1 - 0.18 * grey
        cold = (dim * 0.97, dim, dim * 1.03)
        return cls(
            Sky(
                mix(base.top, tone, grey),
                mix(base.middle, tone, grey * 0.9),
                mix(base.bottom, tone, grey * 0.75),
                tuple(a * (1 + b) / 2 for a, b in zip(base.near, cold, strict=True)),  # type: ignore[arg-type]
                tuple(a * b for a, b in zip(base.land, cold, strict=True)),  # type: ignore[arg-type]
                base.lamps,
            ),
            time,
            weather,
        )

    @property
    def near(self) -> Light:
        return Light(self.sky.near)

    def land(self, depth: float = 0.0) -> Light:
        """Light on the land at a distance from 0 (near) to 1 (far)."""
        if self.weather == "snowy":  # snow lies on everything
            return Light(self.sky.land, mix(self.sky.bottom, SNOW[self.time], 0.75), min(0.85, 0.34 + 0.4 * depth))
        fog = 0.55 * depth**0.5 + 0.12 if self.weather == "foggy" else 0.5 * depth
        return Light(self.sky.land, self.sky.bottom, min(0.85, fog))


def draw_sky(s: Sketch, air: Air, dice: Dice) -> None:
    """The whole sky; the place will cover its lower part."""
    sky, bands = air.sky, 56
    for k in range(bands):
        y = k / bands
        colour = mix(sky.top, sky.middle, y * 2) if y < 0.5 else mix(sky.middle, sky.bottom, y * 2 - 1)
        s.fill(box(-0.01, y * 0.72, 1.01, 0.74), colour)
    x = dice.between(0.12, 0.88)
    if GREYS[air.weather] <= 0.4:  # otherwise neither sun nor stars are visible
        if air.time == "night":
            _stars(s, 34 if air.weather == "clear" else 18, dice)
            _moon(s, complex(x, dice.between(0.1, 0.2)), dice)
        else:
            _sun(s, air, x, dice)
    light = mix("#ffffff", sky.middle, 0.25) if air.time != "night" else mix("#4d5a8c", sky.top, 0.25)
    rain = {"rainy": "#7f8b9c", "stormy": "#555d70"}.get(air.weather)
    if rain:
        light = mix(rain, sky.top, 0.5 if air.time == "night" else 0.15)
    count = CLOUDS[air.weather]
    for k in range(count):
        at = complex((k + dice.between(0.1, 0.9)) / count, dice.between(0.05, 0.3 if count > 2 else 0.24))
        _cloud(s, at, dice.between(0.07, 0.12) * (1.25 if rain else 1.0), light, air.weather == "windy")


def _sun(s: Sketch, air: Air, x: float, dice: Dice) -> None:
    y = {"morning": 0.4, "midday": 0.13, "evening": 0.46}[air.time]
    colour = {"morning": "#ffe08a", "midday": "#ffd84a", "evening": "#ff8a4a"}[air.time]
    at = complex(x, y + dice.between(-0.02, 0.02))
    for r, alpha in ((0.2, 0.12), (0.145, 0.16), (0.105, 0.2)):
        s.fill(ellipse(at, r), mix(colour, "#ffffff", 0.35), alpha)
    if air.time == "midday":
        turn = dice.between(0, 0.5)
        for k in range(12):
            ray = cmath.exp(1j * (turn + np.pi * k / 6))
            s.fill(polygon(at + ray * (0.085 - 0.016j), at + ray * 0.125, at + ray * (0.085 + 0.016j)), colour, 0.8)
    s.fill(ellipse(at, 0.07), colour)


def _moon(s: Sketch, at: complex, dice: Dice) -> None:
    """A full moon or a crescent."""
    for r, alpha in ((0.15, 0.06), (0.11, 0.09)):
        s.fill(ellipse(at, r), "#fff3c4", alpha)
    if dice.chance(0.5):
        s.fill(ellipse(at, 0.062), "#fbf1c9")
        for crater in (0.02 - 0.015j, -0.025 + 0.01j, 0.01 + 0.03j):
            s.fill(ellipse(at + crater, 0.011, n=10), "#e8dba6")
    else:
        outer = at + 0.066 * np.exp(1j * np.linspace(-1.4, 2.4, 20))
        inner = at - 0.032 * cmath.exp(0.5j) + 0.062 * np.exp(1j * np.linspace(1.85, -0.85, 16))
        s.fill(np.concatenate([outer, inner]), "#fbf1c9")


def _stars(s: Sketch, count: int, dice: Dice) -> None:
    for _ in range(count):
        at, r = complex(dice.between(0, 1), dice.between(0, 0.5)), dice.between(0.0022, 0.0055)
        s.fill(_star(at, r * 2.2) if r > 0.0048 else ellipse(at, r, n=8), "#fff6cf")


def _star(at: complex, r: float) -> Points:
    k = np.arange(8)
    return at + np.where(k % 2, 0.4, 1.0) * r * np.exp(1j * np.pi * k / 4)


def _cloud(s: Sketch, at: complex, r: float, colour: str, swept: bool) -> None:
    for tone, shift in ((shade(colour, -0.07), 0.16j), (colour, 0j)):
        c = s.at(at + r * shift, r)
        if swept:
            c.fill(ellipse(0, 1.5, 0.28, n=20), tone)
            c.fill(ellipse(0.5 - 0.2j, 0.7, 0.25, n=18), tone)
            continue
        c.fill(ellipse(0, 1.2, 0.38, n=20), tone)
        for x, y, q in ((-0.55, -0.22, 0.42), (0.05, -0.42, 0.55), (0.6, -0.2, 0.4)):
            c.fill(ellipse(complex(x, y), q, n=18), tone)


def draw_weather(s: Sketch, air: Air, dice: Dice) -> None:
    """Precipitation and the like, in front of everything."""
    night = air.time == "night"
    match air.weather:
        case "rainy" | "stormy":
            slant = -0.35 if air.weather == "stormy" else -0.15
            for _ in range(70 if air.weather == "stormy" else 55):
                at, length = complex(dice.between(-0.05, 1.1), dice.between(-0.05, 1)), dice.between(0.035, 0.065)
                end = at + length * (1j + slant)
                s.fill(polygon(at, at + 0.0035, end + 0.0025, end), "#dcecf7", 0.4 if night else 0.6)
            if air.weather == "stormy":
                x = dice.between(0.1, 0.9)
                bolt = polygon(0, 0.05, 0.02 + 0.1j, 0.055 + 0.1j, -0.02 + 0.27j, 0.0 + 0.14j, -0.035 + 0.14j)
                s.at(complex(x, 0.1)).fill(bolt, "#ffe66b")
        case "snowy":
            for _ in range(75):
                r = dice.between(0.003, 0.009)
                s.fill(ellipse(complex(dice.between(0, 1), dice.between(0, 1)), r, n=8), "#ffffff", 0.9)
        case "foggy":
            for _ in range(4):
                at = complex(dice.between(0.1, 0.9), dice.between(0.84, 1.0))
                tone = "#8894b8" if night else "#f4f4f0"
                s.fill(ellipse(at, dice.between(0.4, 0.7), dice.between(0.02, 0.035)), tone, 0.25)
        case "windy":
            for _ in range(10):
                at = complex(dice.between(0, 1), dice.between(0.1, 0.95))
                leaf = dice.between(0.012, 0.02) * cmath.exp(1j * dice.between(0, 6))
                colour = dice.pick(("#c9803a", "#b9a23c", "#a8563a", "#7f9a44"))
                s.fill(at + leaf * polygon(-1, -0.45j, 1, 0.45j), colour)


def draw_mist(s: Sketch, air: Air, dice: Dice) -> None:
    """Banks of fog or gusts of wind, between the place and the figures."""
    if air.weather == "foggy":
        tone = "#8894b8" if air.time == "night" else "#f4f4f0"
        for k in range(6):
            y = 0.42 + 0.07 * k + dice.between(-0.02, 0.02)
            for r in (1.0, 0.75):
                bank = ellipse(complex(dice.between(0.1, 0.9), y), dice.between(0.4, 0.6) * r, 0.045 * r, n=32)
                s.fill(bank, tone, 0.22)
    elif air.weather == "windy":
        for _ in range(5):
            at, r = complex(dice.between(-0.05, 0.8), dice.between(0.06, 0.5)), dice.between(0.14, 0.22)
            curl = [at, at + r - 0.03j, at + 1.5 * r + 0.02j, at + 1.5 * r - 0.3j * r, at + 1.1 * r - 0.12j * r]
            s.fill(stroke(curl, 0.007, n=16), "#ffffff", 0.7)
