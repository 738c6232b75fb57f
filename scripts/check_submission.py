"""Check a submission from anywhere: python scripts/check_submission.py CSV [--root DIR] [--sample CSV]"""

import argparse
import sys
from pathlib import Path

from senone.corpus.contest import REQUIRED, open_contest
from senone.submission import check_submission, find_sample


def main() -> None:
    parser = argparse.ArgumentParser(description="Check a submission: header, ids in order, labels, rows.")
    parser.add_argument("csv", type=Path)
    parser.add_argument("--root", type=Path, help=f"the contest's folder ({', '.join(REQUIRED)})")
    parser.add_argument("--sample", type=Path, help="the contest's sample submission, if it is not in --root")
    parser.add_argument("--frames", type=int, help="the number of test frames, if there is no --root")
    parser.add_argument("--classes", type=int, default=138, help="the number of classes (default: 138)")
    arguments = parser.parse_args()
    try:
        frames, sample = arguments.frames, arguments.sample
        if arguments.root:
            frames = sum(open_contest(arguments.root)["test"].lengths)
            sample = sample or find_sample(arguments.root)
        rows = check_submission(
            arguments.csv, num_frames=frames, num_classes=arguments.classes, sample=sample
        )
    except (ValueError, OSError) as error:
        print(f"check_submission.py: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"{arguments.csv}: {rows:,} rows, accepted")


if __name__ == "__main__":
    main()
