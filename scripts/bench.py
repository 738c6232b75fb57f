"""Measure how fast the program is: python scripts/bench.py GROUP [--quick] [--threads N]

Prints a table for people, then one JSON line for each figure.
"""

import argparse
import math

from senone.benchmarks import GROUPS, LIMITED, measure


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast the program is.")
    parser.add_argument("group", choices=[*GROUPS, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: rougher figures")
    parser.add_argument("--threads", type=int, default=1, help=f"of {', '.join(LIMITED)}")
    arguments = parser.parse_args()
    most = math.inf if arguments.group in (*LIMITED, "all") else 1
    if not 1 <= arguments.threads <= most:
        parser.error(f"--threads={arguments.threads}: expected {'1 or more' if most > 1 else 1}")
    groups = GROUPS if arguments.group == "all" else (arguments.group,)
    figures = []
    for group in groups:
        for figure in measure(group, arguments.quick, arguments.threads):
            print(figure.line(), flush=True)
            figures.append(figure)
    for figure in figures:
        print(figure.json())


if __name__ == "__main__":
    main()
