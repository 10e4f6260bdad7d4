"""Families of scenes. Each module has two functions:

`sample(rng, slots, floor)` gives the family's part of a scene's state, and `draw(canvas, state)`
paints it. A corruption changes the state between the two.
"""

from world.families import beside, bite, drop, walk

FAMILIES = {"bite": bite, "walk": walk, "drop": drop, "beside": beside}
