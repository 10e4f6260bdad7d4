"""Runs training.data.prepare, and prints the most bytes that its process had in memory.

By VmHWM of /proc/self/status, which, other than ru_maxrss, begins with the program itself.
"""

from pathlib import Path

from training.data.prepare.__main__ import main, parse_arguments

if __name__ == "__main__":
    main(parse_arguments())
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    print("peak", int(peak) * 1024)
