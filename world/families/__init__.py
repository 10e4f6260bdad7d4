"""Families of scenes. Each module has two functions:

`sample(rng, slots, floor, frames)` gives the family's part of a scene's state, and
`draw(canvas, state)` paints it. A corruption changes the state between the two.
"""

from world.families import (
    beside,
    bite,
    cat_and_ball,
    count,
    drop,
    hide,
    hit,
    lamp,
    melt,
    order,
    pan,
    pour,
    roll,
    sign,
    swing,
    two_balls,
    walk,
)

FAMILIES = {
    "bite": bite,
    "walk": walk,
    "drop": drop,
    "beside": beside,
    "roll": roll,
    "hit": hit,
    "hide": hide,
    "swing": swing,
    "order": order,
    "count": count,
    "cat_and_ball": cat_and_ball,
    "two_balls": two_balls,
    "pour": pour,
    "melt": melt,
    "sign": sign,
    "lamp": lamp,
    "pan": pan,
}
CROSSING = ("roll", "hit", "hide", "order", "cat_and_ball", "two_balls")
"""Families whose actors move on at a speed that takes them out of view after 17 frames."""
