"""Measure how fast the program is: python scripts/bench.py GROUP [--quick]

Prints a table for people, then one JSON line for each figure.
"""

import argparse

from senone.benchmarks import GROUPS, measure


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast the program is.")
    parser.add_argument("group", choices=[*GROUPS, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: rougher figures")
    arguments = parser.parse_args()
    groups = GROUPS if arguments.group == "all" else (arguments.group,)
    figures = []
    for group in groups:
        for figure in measure(group, arguments.quick):
            print(figure.line(), flush=True)
            figures.append(figure)
    for figure in figures:
        print(figure.json())


if __name__ == "__main__":
    main()
