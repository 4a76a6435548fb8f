"""How long `ar --help` takes, beside a Python that does nothing.

Both are started in turn, so that a busy machine slows them alike. Prints the median wall times and their
ratio; exit code 1 when `ar --help` takes longer than the limit.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(*argv: str) -> float:
    """Wall time of one process, its output thrown away."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=20, help="starts of each (default: 20)")
    parser.add_argument("--limit", type=float, default=0.2, help="seconds allowed (default: 0.2)")
    options = parser.parse_args()

    calls = {"python -c pass": ("-c", "pass"), "ar --help": ("-m", "ar", "--help")}
    for call in calls.values():
        seconds(*call)  # fills the file cache and writes the bytecode
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.n):
        for name, call in calls.items():
            times[name].append(seconds(*call))

    idle, ours = (statistics.median(values) for values in times.values())
    for name, values in times.items():
        print(f"{name:<16} {statistics.median(values):.3f} s  (fastest {min(values):.3f})")
    print(f"{'ratio':<16} {ours / idle:.1f}")
    return 0 if ours <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
