"""Switches a safeguard off, so that a test can show what it is there for. Never set it otherwise.

KINETOGRAPH_WITHOUT=fence|reaper|sweeper, or several of them with commas between.
"""

import os

_WITHOUT = frozenset(filter(None, os.environ.get("KINETOGRAPH_WITHOUT", "").split(",")))

FENCE = "fence" not in _WITHOUT
"""Whether an attempt that is no longer the job's can write nothing."""
REAPER = "reaper" not in _WITHOUT
"""Whether the jobs of a worker that is gone are given to another."""
SWEEPER = "sweeper" not in _WITHOUT
"""Whether jobs that the queue does not know, or no longer runs, are queued again."""
