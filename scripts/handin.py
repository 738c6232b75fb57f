"""Pack Part 1 as the course takes it: python scripts/handin.py [--run runs/part1] [--out handin.tar]"""

import argparse
import sys
from pathlib import Path

from senone.handin import pack


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack hw1.py and the plots of a run of scripts/part1.py.")
    parser.add_argument("--run", type=Path, default=Path("runs/part1"), help="the folder with the plots")
    parser.add_argument("--out", type=Path, default=Path("handin.tar"))
    arguments = parser.parse_args()
    try:
        members = pack(arguments.run, arguments.out)
    except (ValueError, OSError) as error:
        print(f"handin.py: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"{arguments.out}: {', '.join(members)}")


if __name__ == "__main__":
    main()
