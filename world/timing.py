"""The length and rate of a clip."""

NUM_FRAMES = 17
FPS = 8
