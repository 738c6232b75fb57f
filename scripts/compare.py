"""Runs, the best first, with the settings in which they differ: python scripts/compare.py [RUNS]"""

import argparse
import sys
from pathlib import Path

from senone.comparison import compare_runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs by dev accuracy, and what differs between them.")
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument("--csv", type=Path, help="write the table here as well")
    arguments = parser.parse_args()
    try:
        table = compare_runs(arguments.runs)
        if arguments.csv:
            table.to_csv(arguments.csv, index=False)
    except (ValueError, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(table.to_string(index=False, formatters={"dev accuracy": "{:.2%}".format}))


if __name__ == "__main__":
    main()
