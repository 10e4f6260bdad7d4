"""`python -m benchmarks.physics`: grade models, and validate what grades them."""

import argparse
import gc
import sys
from collections.abc import Sequence

from benchmarks.physics import phyworld, run
from benchmarks.physics.validation import inspect, validate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.physics", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    run.add_commands(commands)
    validate.add_command(commands)
    inspect.add_command(commands)
    phyworld.add_command(commands)
    args = parser.parse_args(arguments)
    try:
        return int(args.command(args))
    except (run.Unusable, ValueError, OSError) as error:
        print(f"physics: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"physics: stopped. {run.AGAIN}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    gc.freeze()  # imageio collects garbage after every file, and what is imported is none
    sys.exit(main())
