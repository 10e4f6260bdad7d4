"""Charts as SVG text; they take the width that they are given."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

BLUE, GREY, LIGHT, RED = "#2563a8", "#8a8f98", "#e3e6ea", "#c22f4a"
FONT = "font-family='system-ui,sans-serif' font-size='11'"
Points = Sequence[tuple[float, float]]


def _svg(width: float, height: float, body: str, label: str) -> Markup:
    return Markup(
        f"<svg viewBox='0 0 {width:g} {height:g}' role='img' aria-label='{escape(label)}' "
        f"{FONT}>{body}</svg>"
    )


def bars(rows: Sequence[tuple[str, float, float, float]], label: str) -> Markup:
    """Rates in [0, 1] as bars with their intervals: rows of name, value, low, high."""
    left, width, step = 128.0, 190.0, 20
    body = ""
    for tick in (0, 50, 100):
        x = left + width * tick / 100
        body += f"<line x1='{x}' y1='14' x2='{x}' y2='{step * len(rows) + 18}' stroke='{LIGHT}'/>"
        body += f"<text x='{x}' y='10' text-anchor='middle' fill='{GREY}'>{tick}</text>"
    for index, (name, value, low, high) in enumerate(rows):
        y = 18 + step * index
        x, a, b = (left + width * v for v in (value, low, high))
        body += (
            f"<text x='{left - 6}' y='{y + 11}' text-anchor='end'>{escape(name)}</text>"
            f"<rect x='{left}' y='{y}' width='{max(x - left, 0.5):.1f}' height='14' "
            f"fill='{BLUE}' opacity='.75'/>"
            f"<path d='M{a:.1f} {y + 7}H{b:.1f}M{a:.1f} {y + 3}v8M{b:.1f} {y + 3}v8' "
            f"stroke='#111' fill='none'/>"
            f"<text x='{left + width + 8}' y='{y + 11}'>{100 * value:.0f}</text>"
        )
    return _svg(360, 18 + step * len(rows) + 6, body, label)


def radar(names: Sequence[str], series: Mapping[str, Sequence[float]], label: str) -> Markup:
    """Families as spokes; the first series is filled."""
    middle, reach = 180.0, 120.0
    angles = [2 * math.pi * i / len(names) - math.pi / 2 for i in range(len(names))]

    def place(angle: float, value: float) -> str:
        x, y = middle + reach * value * math.cos(angle), middle + reach * value * math.sin(angle)
        return f"{x:.1f},{y:.1f}"

    body = ""
    for ring in (0.5, 1.0):
        points = " ".join(place(angle, ring) for angle in angles)
        body += f"<polygon points='{points}' fill='none' stroke='{LIGHT}'/>"
    for name, angle in zip(names, angles, strict=True):
        x, y = place(angle, 1.12).split(",")
        side = math.cos(angle)
        anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
        body += f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{escape(name)}</text>"
    colours = (BLUE, "#111", GREY)
    for (name, values), ink in zip(series.items(), colours, strict=False):
        points = " ".join(place(a, v) for a, v in zip(angles, values, strict=True))
        fill = f"{ink}' fill-opacity='.3" if ink == BLUE else "none"
        body += f"<polygon points='{points}' fill='{fill}' stroke='{ink}'>"
        body += f"<title>{escape(name)}</title></polygon>"
    return _svg(360, 350, body, label)


def histogram(values: Sequence[float], label: str) -> Markup:
    """Errors over their bound: ten bins up to twice the bound, and one for what lies beyond."""
    counts = [0] * 11
    for value in values:
        # At the bound itself a clip still passes: 1 belongs to the last blue bar.
        counts[max(0, math.ceil(min(value, 2.2) * 5) - 1)] += 1
    top = max([*counts, 1])
    body = ""
    for index, count in enumerate(counts):
        height = 40 * count / top
        ink = BLUE if index < 5 else RED
        body += (
            f"<rect x='{10 + 10 * index}' y='{44 - height:.1f}' width='9' "
            f"height='{height:.1f}' fill='{ink}'/>"
        )
    body += "<path d='M60 2V46' stroke='#111' stroke-dasharray='2'/>"
    body += f"<text x='8' y='58'>{escape(label)}</text>"
    body += f"<text x='122' y='58' text-anchor='end' fill='{GREY}'>{len(values)}</text>"
    return _svg(130, 62, body, f"errors of {label}")


def curve(points: Points, label: str, floor: float = 0.95) -> Markup:
    """Recall over a corruption's severity, with the 95 % line."""
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    span = (high - low) or 1.0

    def place(x: float, y: float) -> str:
        return f"{30 + 130 * (x - low) / span:.1f},{70 - 60 * y:.1f}"

    line = " ".join(place(x, y) for x, y in points)
    dots = "".join(
        "<circle cx='{}' cy='{}' r='2.2' fill='{}'/>".format(*place(x, y).split(","), BLUE)
        for x, y in points
    )
    body = (
        f"<path d='M30 10V70H162' stroke='{GREY}' fill='none'/>"
        f"<line x1='30' x2='160' y1='{70 - 60 * floor}' y2='{70 - 60 * floor}' stroke='{RED}' "
        f"stroke-dasharray='3'/><polyline points='{line}' fill='none' stroke='{BLUE}'/>{dots}"
        f"<text x='26' y='14' text-anchor='end'>1</text>"
        f"<text x='26' y='72' text-anchor='end'>0</text>"
        f"<text x='30' y='84'>{low:g}</text><text x='160' y='84' text-anchor='end'>{high:g}</text>"
        f"<text x='95' y='98' text-anchor='middle'>{escape(label)}</text>"
    )
    return _svg(172, 102, body, f"recall over severity: {label}")
