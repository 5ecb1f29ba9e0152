"""Things drawn from a seed: kinds of things, classes inside them, and instances that differ in colour and proportion.

Every class is a function from a `Pen` to marks on a canvas; what the pen's own random numbers decide (hue, stretch, number
of petals) makes the instance. Coordinates run from 0 to 1, y downward.
"""

import colorsys
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

CANVAS = 384
"""Side in pixels that a thing is drawn at; views are smaller, which smooths the edges."""

Colour: TypeAlias = tuple[int, int, int] | tuple[int, int, int, int]
"""RGB, or RGBA to leave a hole."""
Point: TypeAlias = tuple[float, float]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return an RGB colour; the hue wraps round at 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(1, max(0, saturation)), min(1, max(0, value)))
    return round(255 * red), round(255 * green), round(255 * blue)


@dataclass(slots=True)
class Pen:
    """Draws on one canvas and owns the instance's random numbers."""

    draw: ImageDraw.ImageDraw
    rng: np.random.Generator

    def vary(self, middle: float, spread: float) -> float:
        """Return a number around `middle`, different for each instance."""
        return float(self.rng.uniform(middle - spread, middle + spread))

    def colour(self, hue: float, spread: float = 0.03, saturation: float = 0.75, value: float = 0.85) -> Colour:
        """Return a colour near a hue."""
        return hsv(self.vary(hue, spread), self.vary(saturation, 0.15), self.vary(value, 0.1))

    def oval(self, centre: Point, width: float, height: float, fill: Colour) -> None:
        """Draw an ellipse of full width and height."""
        x, y = centre
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.draw.ellipse([CANVAS * value for value in box], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, *, round_by: float = 0.0) -> None:
        """Draw a rectangle."""
        corners = [CANVAS * value for value in (left, top, right, bottom)]
        self.draw.rounded_rectangle(corners, radius=CANVAS * round_by, fill=fill)

    def shape(self, points: list[Point], fill: Colour) -> None:
        """Draw a polygon."""
        self.draw.polygon([(CANVAS * x, CANVAS * y) for x, y in points], fill=fill)

    def line(self, points: list[Point], width: float, fill: Colour) -> None:
        """Draw a stroke with round joints."""
        at = [(CANVAS * x, CANVAS * y) for x, y in points]
        self.draw.line(at, fill=fill, width=max(1, round(CANVAS * width)), joint="curve")

    def petal(self, centre: Point, angle: float, size: tuple[float, float, float], fill: Colour) -> None:
        """Draw a leaf of (inner radius, length, width) that points away from a centre."""
        start, length, width = size
        along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        points = []
        for step in np.linspace(0, 2 * math.pi, 28).tolist():
            out, side = start + length * (1 - math.cos(step)) / 2, width / 2 * math.sin(step)
            points.append(
                (centre[0] + along[0] * out + across[0] * side, centre[1] + along[1] * out + across[1] * side)
            )
        self.shape(points, fill)


def _darker(colour: Colour, by: float = 0.7) -> Colour:
    red, green, blue = colour[:3]
    return round(red * by), round(green * by), round(blue * by)


BROWN, LEAF, INK, CREAM, GLASS = (96, 62, 38), (76, 140, 62), (40, 42, 54), (245, 236, 215), (178, 212, 230)
CLEAR = (0, 0, 0, 0)


def _freckles(pen: Pen, centre: Point, width: float, height: float, fill: Colour) -> None:
    """Scatter dots over an ellipse; where they sit tells one instance from the next."""
    for number in range(int(pen.rng.integers(0, 8))):
        angle, out, dot = 2.4 * number + pen.vary(0, 0.6), pen.vary(0.35, 0.12), pen.vary(0.045, 0.02)
        x, y = centre[0] + width * out * math.cos(angle), centre[1] + height * out * math.sin(angle)
        pen.oval((x, y), dot, dot, fill)


def apple(pen: Pen) -> None:
    skin = pen.colour(float(pen.rng.choice([0.0, 0.02, 0.25])), 0.03)
    width = pen.vary(0.62, 0.06)
    for side in (-1, 1):
        pen.oval((0.5 + side * 0.11, 0.56), width * 0.72, pen.vary(0.62, 0.02), skin)
    pen.line([(0.5, 0.34), (0.53, 0.2), (0.57, 0.14)], 0.03, BROWN)
    pen.petal((0.54, 0.22), pen.vary(-0.4, 0.3), (0, 0.22, 0.11), LEAF)


def pear(pen: Pen) -> None:
    skin = pen.colour(0.19, 0.05, 0.65)
    pen.oval((0.5, 0.64), pen.vary(0.54, 0.05), 0.5, skin)
    pen.oval((0.5, 0.4), pen.vary(0.32, 0.04), 0.44, skin)
    _freckles(pen, (0.5, 0.66), 0.38, 0.34, pen.colour(0.06, 0.06, 0.7, 0.6))
    pen.line([(0.5, 0.22), (0.55, 0.1)], 0.03, BROWN)
    pen.petal((0.53, 0.15), pen.vary(0.2, 0.4), (0, 0.2, 0.09), LEAF)


def banana(pen: Pen) -> None:
    skin = pen.colour(0.155, 0.05, 0.8, 0.95)
    bend, thick = pen.vary(0.3, 0.08), pen.vary(0.16, 0.04)
    for number in range(int(pen.rng.integers(1, 4))):
        outer, inner = [], []
        for t in np.linspace(0, 1, 24).tolist():
            x, y = 0.14 + 0.72 * t, 0.34 + 0.1 * number + bend * math.sin(math.pi * t) - 0.12 * t
            half = thick / 2 * math.sin(math.pi * (0.08 + 0.84 * t)) ** 0.6
            outer.append((x, y - half))
            inner.append((x, y + half))
        pen.shape(outer + inner[::-1], _darker(skin, 1 - 0.1 * number))
    pen.line([(0.12, 0.32), (0.17, 0.36)], 0.05, BROWN)


def grapes(pen: Pen) -> None:
    skin, rows = pen.colour(float(pen.rng.choice([0.78, 0.26])), 0.03, 0.6, 0.65), int(pen.rng.integers(4, 6))
    pen.line([(0.5, 0.28), (0.52, 0.1)], 0.03, BROWN)
    pen.petal((0.52, 0.2), 0.0, (0, 0.3, 0.2), LEAF)
    for row in range(rows):
        count = rows - row
        for number in range(count):
            tone = _darker(skin, pen.vary(0.95, 0.15))
            pen.oval((0.5 + (number - (count - 1) / 2) * 0.155, 0.33 + row * 0.13), 0.17, 0.17, tone)


def _stem(pen: Pen, top: float = 0.4) -> None:
    pen.line([(0.5, top), (pen.vary(0.5, 0.05), 0.97)], 0.03, LEAF)
    for angle in (pen.vary(-0.5, 0.2), pen.vary(-2.6, 0.2)):
        pen.petal((0.5, 0.86), angle, (0, 0.26, 0.1), LEAF)


def _wheel(pen: Pen, count: int, size: tuple[float, float, float], fill: Colour) -> None:
    turn = pen.vary(0, 0.3)
    for number in range(count):
        pen.petal((0.5, 0.38), turn + 2 * math.pi * number / count, size, _darker(fill, 1 - 0.12 * (number % 2)))


def daisy(pen: Pen) -> None:
    _stem(pen)
    count, length = int(pen.rng.integers(9, 15)), pen.vary(0.24, 0.04)
    _wheel(pen, count, (0.05, length, 0.11), pen.colour(pen.vary(0.9, 0.1), 0.05, 0.2, 0.95))
    pen.oval((0.5, 0.38), 0.18, 0.18, pen.colour(0.13, 0.02, 0.8, 0.95))


def tulip(pen: Pen) -> None:
    _stem(pen)
    petals = pen.colour(pen.vary(0.96, 0.12), 0.03)
    width = pen.vary(0.16, 0.03)
    pen.shape(
        [(0.5 - width, 0.18), (0.5, 0.34), (0.5 + width, 0.18), (0.5 + width, 0.42), (0.5, 0.56), (0.5 - width, 0.42)],
        petals,
    )
    pen.petal((0.5, 0.56), -math.pi / 2, (0, 0.42, 0.2), pen.colour(pen.vary(0.04, 0.14), 0.0))


def sunflower(pen: Pen) -> None:
    _stem(pen)
    _wheel(pen, int(pen.rng.integers(14, 22)), (0.08, pen.vary(0.25, 0.03), 0.08), pen.colour(0.11, 0.05, 0.9, 0.9))
    heart, disc, eye = pen.colour(0.07, 0.03, 0.6, 0.35), pen.vary(0.27, 0.08), pen.vary(0.13, 0.06)
    pen.oval((0.5, 0.38), disc, disc, heart)
    pen.oval((0.5, 0.38), eye, eye, _darker(heart, pen.vary(1.0, 0.5)))


def poppy(pen: Pen) -> None:
    _stem(pen)
    petals, heart = pen.colour(pen.vary(0.0, 0.05), 0.03, 0.85), pen.vary(0.17, 0.07)
    for number, (x, y) in enumerate(((0.085, 0.085), (-0.085, 0.085), (-0.085, -0.085), (0.085, -0.085))):
        pen.oval((0.5 + x, 0.38 + y), 0.34, 0.3, _darker(petals, 1 - 0.08 * number))
    pen.oval((0.5, 0.38), heart, heart, INK)
    pen.oval((0.5, 0.38), 0.08, 0.08, pen.colour(pen.vary(0.22, 0.12), 0.0, 0.4, 0.6))


def _windows(pen: Pen, box: tuple[float, float, float, float], columns: int, rows: int, fill: Colour) -> None:
    left, top, right, bottom = box
    wide, high = (right - left) / columns, (bottom - top) / rows
    for column in range(columns):
        for row in range(rows):
            x, y = left + column * wide, top + row * high
            pen.box(x + wide * 0.22, y + high * 0.2, x + wide * 0.78, y + high * 0.8, fill)


def cottage(pen: Pen) -> None:
    wall, roof, eaves = pen.colour(0.11, 0.04, 0.3, 0.92), pen.colour(0.02, 0.04, 0.65, 0.65), pen.vary(0.45, 0.03)
    pen.box(0.66, 0.18, 0.75, 0.45, _darker(roof))
    pen.box(0.17, eaves, 0.83, 0.9, wall)
    pen.shape([(0.09, eaves), (0.5, pen.vary(0.15, 0.04)), (0.91, eaves)], roof)
    pen.box(0.43, 0.64, 0.57, 0.9, pen.colour(pen.vary(0.5, 0.5), 0.1, 0.6, 0.5))
    for left in (0.22, 0.61):
        pen.box(left, 0.56, left + 0.16, 0.72, GLASS)


def tower(pen: Pen) -> None:
    stone, width = pen.colour(0.08, 0.05, 0.15, 0.72), pen.vary(0.15, 0.03)
    pen.box(0.5 - width, 0.3, 0.5 + width, 0.94, stone)
    for number in range(4):
        left = 0.5 - width - 0.04 + number * (2 * width + 0.08) / 3.6
        pen.box(left, 0.22, left + 0.06, 0.34, _darker(stone, 0.9))
    pen.shape([(0.5 - width, 0.26), (0.5, 0.04), (0.5 + width, 0.26)], pen.colour(pen.vary(0.8, 0.25), 0.03, 0.5, 0.55))
    _windows(pen, (0.44, 0.38, 0.56, 0.76), 1, 3, INK)
    pen.box(0.44, 0.78, 0.56, 0.94, BROWN, round_by=0.05)


def barn(pen: Pen) -> None:
    wall, top = pen.colour(pen.vary(0.0, 0.03), 0.02, 0.75, 0.65), pen.vary(0.2, 0.03)
    half, lintel, door = pen.vary(0.19, 0.05), pen.vary(0.56, 0.05), pen.colour(pen.vary(0.5, 0.5), 0.0, 0.45, 0.5)
    pen.shape([(0.12, 0.9), (0.12, 0.48), (0.24, 0.3), (0.5, top), (0.76, 0.3), (0.88, 0.48), (0.88, 0.9)], wall)
    pen.line([(0.1, 0.5), (0.24, 0.3), (0.5, top), (0.76, 0.3), (0.9, 0.5)], 0.04, CREAM)
    pen.box(0.475 - half, lintel - 0.025, 0.525 + half, 0.9, CREAM)
    pen.box(0.5 - half, lintel, 0.5 + half, 0.9, door)
    for side in (-1, 1):
        pen.line([(0.5 - side * half, lintel), (0.5 + side * half, 0.9)], 0.025, CREAM)
    if pen.rng.random() < 0.5:
        pen.oval((0.5, top + 0.17), pen.vary(0.12, 0.03), 0.12, INK)


def skyscraper(pen: Pen) -> None:
    wall, columns = pen.colour(0.58, 0.08, 0.35, 0.55), int(pen.rng.integers(3, 6))
    left, right, top = pen.vary(0.3, 0.04), pen.vary(0.7, 0.04), pen.vary(0.12, 0.05)
    pen.line([(0.5, top), (0.5, 0.02)], 0.015, INK)
    pen.box(left, top, right, 0.95, wall)
    rows, light = int(pen.rng.integers(7, 11)), pen.colour(0.14, 0.03, 0.35, 0.98)
    _windows(pen, (left, top + 0.03, right, 0.86), columns, rows, light)


def _tyre(pen: Pen, x: float, y: float, size: float) -> None:
    pen.oval((x, y), size, size, INK)
    pen.oval((x, y), size * 0.45, size * 0.45, (200, 202, 208))


def car(pen: Pen) -> None:
    paint, roof = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.8), pen.vary(0.34, 0.04)
    pen.shape([(0.24, 0.54), (pen.vary(0.34, 0.03), roof), (pen.vary(0.64, 0.03), roof), (0.78, 0.54)], paint)
    pen.shape([(0.3, 0.53), (0.38, roof + 0.04), (0.49, roof + 0.04), (0.49, 0.53)], GLASS)
    pen.shape([(0.53, 0.53), (0.53, roof + 0.04), (0.62, roof + 0.04), (0.71, 0.53)], GLASS)
    pen.box(0.08, 0.5, 0.93, 0.7, paint, round_by=0.07)
    for x in (0.27, 0.74):
        _tyre(pen, x, 0.71, 0.19)
    pen.oval((0.9, 0.57), 0.06, 0.06, (255, 244, 180))


def bus(pen: Pen) -> None:
    paint = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.7)
    pen.box(0.05, pen.vary(0.3, 0.04), 0.95, 0.75, paint, round_by=0.06)
    _windows(pen, (0.07, 0.34, 0.82, 0.56), int(pen.rng.integers(4, 7)), 1, GLASS)
    pen.box(0.83, 0.38, 0.92, 0.7, GLASS)
    pen.box(0.05, 0.59, 0.82, 0.63, CREAM)
    for x in (0.24, 0.74):
        _tyre(pen, x, 0.76, 0.17)


def sailboat(pen: Pen) -> None:
    sail, mast = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.35, 0.97), pen.vary(0.48, 0.04)
    pen.line([(mast, 0.08), (mast, 0.74)], 0.02, BROWN)
    pen.shape([(mast + 0.02, 0.1), (mast + 0.02, 0.66), (pen.vary(0.86, 0.04), 0.66)], sail)
    pen.shape([(mast - 0.02, 0.2), (mast - 0.02, 0.66), (pen.vary(0.2, 0.04), 0.66)], _darker(sail, 0.9))
    pen.shape([(0.1, 0.72), (0.92, 0.72), (0.78, 0.9), (0.24, 0.9)], pen.colour(pen.vary(0.5, 0.5), 0.0, 0.7, 0.6))


def balloon(pen: Pen) -> None:
    hue, count = pen.vary(0.5, 0.5), int(pen.rng.integers(4, 8))
    for number in range(count):
        share = 1 - number / count
        pen.oval((0.5, 0.37), 0.66 * share, 0.66, hsv(hue + (number % 2) * 0.12, 0.75, 0.95 - 0.2 * (number % 2)))
    for x in (0.36, 0.64):
        pen.line([(x, 0.66), (0.5 + (x - 0.5) * 0.5, 0.82)], 0.012, BROWN)
    pen.box(0.41, 0.8, 0.59, 0.94, BROWN, round_by=0.02)


def fish(pen: Pen) -> None:
    body, tall = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.75, 0.9), pen.vary(0.36, 0.07)
    pen.shape([(0.25, 0.5), (0.05, 0.5 - tall / 2), (0.1, 0.5), (0.05, 0.5 + tall / 2)], _darker(body))
    pen.shape([(0.42, 0.4), (0.56, 0.5 - tall * 0.85), (0.72, 0.4)], _darker(body, 0.8))
    pen.oval((0.56, 0.5), 0.7, tall, body)
    for number in range(int(pen.rng.integers(2, 5))):
        x = 0.4 + 0.1 * number
        pen.line([(x, 0.5 - tall * 0.4), (x - 0.03, 0.5 + tall * 0.4)], 0.03, _darker(body, 0.75))
    pen.oval((0.81, 0.46), 0.07, 0.07, CREAM)
    pen.oval((0.82, 0.46), 0.035, 0.035, INK)


def octopus(pen: Pen) -> None:
    skin, arms = pen.colour(pen.vary(0.9, 0.12), 0.02, 0.6, 0.8), int(pen.rng.integers(5, 8))
    for number in range(arms):
        x = 0.5 + (number - (arms - 1) / 2) * 0.48 / arms
        bend = pen.vary(0.05, 0.03) * (1 if number % 2 else -1)
        pen.line(
            [(x, 0.5), (x + bend, 0.66), (x * 1.6 - 0.3 - bend, 0.8), (x * 1.8 - 0.4, 0.92)], 0.07, _darker(skin, 0.9)
        )
    pen.oval((0.5, 0.36), pen.vary(0.52, 0.05), 0.52, skin)
    for x in (0.41, 0.59):
        pen.oval((x, 0.42), 0.1, 0.1, CREAM)
        pen.oval((x, 0.43), 0.05, 0.05, INK)


def starfish(pen: Pen) -> None:
    skin, inner, turn = pen.colour(0.05, 0.08, 0.75, 0.92), pen.vary(0.18, 0.05), pen.vary(0, 0.3)
    dots, dot = pen.colour(pen.vary(0.05, 0.2), 0.0, 0.5, 0.75), pen.vary(0.045, 0.025)
    angles = [turn + math.pi * number / 5 - math.pi / 2 for number in range(10)]
    radii = [0.45 if number % 2 == 0 else inner for number in range(10)]
    pen.shape([(0.5 + r * math.cos(a), 0.52 + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)], skin)
    for angle in angles[::2]:
        for radius in (0.1, 0.2, 0.3):
            pen.oval((0.5 + radius * math.cos(angle), 0.52 + radius * math.sin(angle)), dot, dot, dots)


def whale(pen: Pen) -> None:
    skin = pen.colour(0.58, 0.08, 0.45, 0.58)
    pen.shape([(0.8, 0.52), (0.97, pen.vary(0.26, 0.03)), (0.86, 0.36), (0.74, pen.vary(0.26, 0.03))], skin)
    pen.oval((0.45, 0.58), 0.78, pen.vary(0.42, 0.04), skin)
    pen.oval((0.4, 0.68), 0.54, pen.vary(0.22, 0.05), pen.colour(pen.vary(0.1, 0.1), 0.0, 0.2, 0.9))
    _freckles(pen, (0.52, 0.5), 0.5, 0.2, _darker(skin, pen.vary(1.0, 0.4)))
    pen.oval((0.2, 0.54), 0.045, 0.045, INK)
    for side in (-1, 1):
        pen.line([(0.36, 0.36), (0.36 + side * 0.04, 0.22), (0.36 + side * pen.vary(0.12, 0.03), 0.2)], 0.025, GLASS)


def mug(pen: Pen) -> None:
    glaze, stripe = (pen.colour(pen.vary(0.5, 0.5), 0.0, 0.55, value) for value in (0.85, 0.95))
    top = pen.vary(0.28, 0.05)
    pen.oval((0.74, 0.55), 0.34, 0.36, glaze)
    pen.oval((0.74, 0.55), 0.2, 0.22, CLEAR)
    pen.box(0.2, top, 0.7, 0.86, glaze, round_by=0.06)
    for number in range(int(pen.rng.integers(0, 3))):
        pen.box(0.2, 0.46 + 0.14 * number, 0.7, 0.53 + 0.14 * number, stripe)
    pen.oval((0.45, top + 0.02), 0.5, 0.1, _darker(glaze, 0.5))


def bottle(pen: Pen) -> None:
    glass, shoulder = pen.colour(float(pen.rng.choice([0.33, 0.08, 0.55])), 0.04, 0.65, 0.5), pen.vary(0.42, 0.05)
    pen.box(0.44, 0.08, 0.56, 0.5, glass)
    pen.box(0.43, 0.05, 0.57, 0.13, pen.colour(0.08, 0.08, 0.6, 0.5))
    pen.oval((0.5, shoulder + 0.06), 0.36, 0.26, glass)
    pen.box(0.32, shoulder + 0.06, 0.68, 0.95, glass, round_by=0.03)
    pen.box(0.32, 0.6, 0.68, 0.82, CREAM)
    pen.oval((0.5, 0.71), 0.14, 0.14, pen.colour(pen.vary(0.5, 0.5), 0.0))


def teapot(pen: Pen) -> None:
    glaze = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.5, 0.85)
    pen.line([(0.68, 0.62), (0.82, 0.54), (0.93, pen.vary(0.36, 0.03))], 0.08, glaze)
    pen.oval((0.22, 0.56), 0.3, 0.34, glaze)
    pen.oval((0.22, 0.56), 0.18, 0.22, CLEAR)
    pen.oval((0.5, 0.6), pen.vary(0.54, 0.03), 0.5, glaze)
    pen.oval((0.5, 0.36), 0.32, 0.1, _darker(glaze, 0.8))
    pen.oval((0.5, 0.29), 0.09, 0.09, _darker(glaze, 0.8))
    trim, height, dot = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.3, 0.95), pen.vary(0.62, 0.06), pen.vary(0.055, 0.02)
    for number in range(5):
        pen.oval((0.34 + 0.08 * number, height), dot, dot, trim)


def vase(pen: Pen) -> None:
    glaze, belly = pen.colour(pen.vary(0.5, 0.5), 0.0, 0.55, 0.75), pen.vary(0.24, 0.04)
    widths = [0.13, 0.09, 0.12, belly * 0.9, belly, belly * 0.85, 0.12]
    heights = np.linspace(0.1, 0.95, len(widths)).tolist()
    ys = np.linspace(0.1, 0.95, 40)
    smooth = np.interp(ys, heights, widths).tolist()
    pen.shape(
        [(0.5 - w, y) for w, y in zip(smooth, ys, strict=True)]
        + [(0.5 + w, y) for w, y in zip(smooth[::-1], ys[::-1], strict=True)],
        glaze,
    )
    for number in range(int(pen.rng.integers(1, 4))):
        y = 0.52 + 0.1 * number
        half = float(np.interp(y, heights, widths))
        pen.line([(0.5 - half, y), (0.5 + half, y)], 0.025, CREAM)


KINDS: Mapping[str, tuple[Callable[[Pen], None], ...]] = {
    "fruit": (apple, pear, banana, grapes),
    "flowers": (daisy, tulip, sunflower, poppy),
    "buildings": (cottage, tower, barn, skyscraper),
    "vehicles": (car, bus, sailboat, balloon),
    "sea": (fish, octopus, starfish, whale),
    "pottery": (mug, bottle, teapot, vase),
}


def draw_thing(draw_class: Callable[[Pen], None], rng: np.random.Generator) -> Image.Image:
    """Draw one instance, lit from the upper left: RGBA, CANVAS x CANVAS, clear around the thing."""
    thing = Image.new("RGBA", (CANVAS, CANVAS))
    draw_class(Pen(ImageDraw.Draw(thing), rng))
    alpha = thing.getchannel("A")
    lit = ImageChops.offset(alpha.filter(ImageFilter.BoxBlur(CANVAS // 14)), CANVAS // 16, CANVAS // 16)
    shade = lit.point([round(140 + 115 * value / 255) for value in range(256)])
    coloured = ImageChops.multiply(thing.convert("RGB"), Image.merge("RGB", (shade, shade, shade)))
    coloured.putalpha(alpha)
    return coloured
