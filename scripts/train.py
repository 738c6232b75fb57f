"""The main job: train a classifier, draw its pictures, write its submission.

python scripts/train.py                                    on speech that the program synthesises itself
python scripts/train.py data=contest data.root=DIR         on the contest's five files
python scripts/train.py experiment=smoke                   everything once, in seconds
"""

from senone.config import TrainConfig
from senone.hydra_glue import overrides, script
from senone.run import train_run


@script(TrainConfig, "train")
def main(config: TrainConfig) -> None:
    train_run(config, overrides())


if __name__ == "__main__":
    main()
