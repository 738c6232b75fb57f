"""The submission of a checkpoint, or of several that decide together.

python scripts/predict.py checkpoint=runs/NAME/best.pt [root=DIR]
python scripts/predict.py checkpoints=[runs/A/best.pt,runs/B/best.pt] [weights=equal]
"""

from senone.config import PredictConfig
from senone.hydra_glue import script
from senone.inference import predict_run


@script(PredictConfig, "predict")
def main(config: PredictConfig) -> None:
    predict_run(config)


if __name__ == "__main__":
    main()
