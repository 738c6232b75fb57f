"""How good a checkpoint is, or several that decide together.

python scripts/evaluate.py checkpoint=runs/NAME/best.pt [split=dev] [root=DIR]
python scripts/evaluate.py checkpoints=[runs/A/best.pt,runs/B/best.pt] [weights=equal]
"""

from senone.config import EvaluateConfig
from senone.hydra_glue import script
from senone.inference import evaluate_run


@script(EvaluateConfig, "evaluate")
def main(config: EvaluateConfig) -> None:
    evaluate_run(config)


if __name__ == "__main__":
    main()
