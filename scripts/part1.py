"""Task 6 of Part 1: train the numpy network and draw its learning curves.

python scripts/part1.py                                          on scikit-learn's digits, nothing to download
python scripts/part1.py part1.data=mnist part1.root=DIR          the handout's own task, on MNIST
python scripts/part1.py part1.data=speech [part1.root=DIR]       on speech, beside the network's torch twin
"""

from senone.config import Task6Config
from senone.hydra_glue import script
from senone.task6 import run_task6


@script(Task6Config, "part1")
def main(config: Task6Config) -> None:
    run_task6(config.part1, config.corpus)


if __name__ == "__main__":
    main()
