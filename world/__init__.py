"""A procedural two-dimensional world with exact state, captions and an antialiased renderer."""

from world.corruptions import corrupt
from world.families import FAMILIES
from world.held_out import HELD_OUT
from world.render import render
from world.scene import Scene, longest, sample
from world.timing import FPS, MAX_FRAMES, NUM_FRAMES

__all__ = [
    "FAMILIES",
    "FPS",
    "HELD_OUT",
    "MAX_FRAMES",
    "NUM_FRAMES",
    "Scene",
    "corrupt",
    "longest",
    "render",
    "sample",
]
