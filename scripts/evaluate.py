"""How good a checkpoint is: python scripts/evaluate.py checkpoint=runs/NAME/best.pt [split=dev] [root=DIR]"""

from senone.config import EvaluateConfig
from senone.hydra_glue import script
from senone.pipeline import evaluate_run


@script(EvaluateConfig, "evaluate")
def main(config: EvaluateConfig) -> None:
    evaluate_run(config)


if __name__ == "__main__":
    main()
