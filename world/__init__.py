"""A procedural two-dimensional world with exact state, captions and an antialiased renderer."""

from world.families import FAMILIES
from world.render import render
from world.scene import HELD_OUT, Scene, sample
from world.timing import FPS, NUM_FRAMES

__all__ = ["FAMILIES", "FPS", "HELD_OUT", "NUM_FRAMES", "Scene", "render", "sample"]
