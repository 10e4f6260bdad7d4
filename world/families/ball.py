"""The ball that many families share."""

from world import shapes
from world.families.face import draw_face, turned
from world.painter import Canvas, Patch, shadow
from world.palette import Floats, outline_of


def draw_ball(canvas: Canvas, centre: Floats, radius: float, colour: Floats) -> None:
    """A round ball lit from the upper left; `centre` is `(T, 2)`."""
    with canvas.patch(centre, (radius, radius)) as patch:
        patch.ink(shapes.circle(patch.x, patch.y, radius), colour, outline_of(colour))
        _glint(patch, radius)


def draw_rolling(
    canvas: Canvas, centre: Floats, radius: float, colour: Floats, turn: Floats
) -> None:
    """A ball on the ground with its shadow; a band that `turn (T,)` radians tell shows it roll.

    The band is a shade of the ball's own colour, near enough to pass for it.
    """
    shadow(canvas, centre + (0.0, radius), 1.1 * radius, 0.42)
    with canvas.patch(centre, (radius, radius)) as patch:
        disc = shapes.circle(patch.x, patch.y, radius)
        patch.ink(disc, colour, outline_of(colour))
        across, _ = turned(patch, turn)
        band = abs(across) - 0.26 * radius
        inside = patch.coverage(disc + patch.style.outline)
        patch.blend(0.75 * inside * patch.coverage(band), shade(colour))
        _glint(patch, radius)


def draw_faced(
    canvas: Canvas, centre: Floats, radius: float, colour: Floats, turn: Floats, eyes: Floats
) -> None:
    """A ball with a face; `turn (T,)` tilts it, clockwise, and `eyes (T,)` shuts its eyes at 0."""
    with canvas.patch(centre, (radius, radius)) as patch:
        patch.ink(shapes.circle(patch.x, patch.y, radius), colour, outline_of(colour))
        draw_face(patch, radius, colour, turn, eyes)
        _glint(patch, radius, at=(0.52, 0.54), size=0.15)


def _glint(
    patch: Patch, radius: float, at: tuple[float, float] = (0.36, 0.38), size: float = 0.24
) -> None:
    """The light from the upper left on a ball; `at` and `size` are in radii."""
    spot = shapes.circle(patch.x + at[0] * radius, patch.y + at[1] * radius, size * radius)
    patch.blend(0.75 * patch.coverage(spot), (1.0, 1.0, 1.0))


def shade(colour: Floats) -> Floats:
    """A shade `(3,)` that still has its colour's name: darker, or lighter where that is black."""
    return colour + 0.14 if colour.max() < 0.3 else 0.78 * colour
