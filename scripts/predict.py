"""A checkpoint's submission: python scripts/predict.py checkpoint=runs/NAME/best.pt [root=DIR]"""

from senone.config import PredictConfig
from senone.hydra_glue import script
from senone.pipeline import predict_run


@script(PredictConfig, "predict")
def main(config: PredictConfig) -> None:
    predict_run(config)


if __name__ == "__main__":
    main()
