"""Where frames come from."""

from dataclasses import dataclass, field

from senone.config.checks import require, require_choice


@dataclass
class CorpusConfig:
    """The made corpus: synthesised speech in the contest's format."""

    root: str = "data"  # the corpus lands in a folder of its own below
    size: str = "default"  # tiny, small, default, large
    seed: int = 0
    workers: int = 0  # 0: one process a core
    # [speakers, utterances of each]; empty: as size says
    train: list[int] = field(default_factory=list)
    dev: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for split in ("train", "dev", "test"):
            numbers = getattr(self, split)
            valid = not numbers or (len(numbers) == 2 and min(numbers) >= 1)
            require(valid, f"corpus.{split}", numbers, "[speakers, utterances of each], both 1 or more")
        require(self.seed >= 0, "corpus.seed", self.seed, "0 or more")
        require(self.workers >= 0, "corpus.workers", self.workers, "0 (one a core) or more")


@dataclass
class DataConfig:
    """Where the frames come from and how they are prepared."""

    name: str = "made"  # made: synthesise the corpus if it is not there yet; contest: read root
    root: str | None = None  # folder of train.npy, train_labels.npy, dev.npy, dev_labels.npy, test.npy
    num_classes: int | None = None  # K; null: one more than the largest train label
    normalise: str = "utterance"  # each bin's mean and variance over an utterance or a speaker, or none
    # null: a speaker's are found by how neighbours in the file sound; 1: each utterance stands alone
    utterances_per_speaker: int | None = None
    guard: str = "edge"  # what windows see beyond an utterance's ends
    on_bad: str = "refuse"  # NaN or infinite frames
    cache: str = "data/stores"
    competition: str | None = None  # Kaggle's name of the contest, for the line that hands the CSV in

    def __post_init__(self) -> None:
        require_choice("data.name", self.name, ("made", "contest"))
        require_choice("data.normalise", self.normalise, ("utterance", "speaker", "none"))
        require_choice("data.guard", self.guard, ("edge", "zero"))
        require_choice("data.on_bad", self.on_bad, ("refuse", "drop"))
        require(self.name != "contest" or bool(self.root), "data.root", self.root, "the contest's folder")
        number = self.utterances_per_speaker
        require(number is None or number >= 1, "data.utterances_per_speaker", number, "null, or 1 or more")
        classes = self.num_classes
        require(classes is None or 2 <= classes <= 65535, "data.num_classes", classes, "2 to 65535")
