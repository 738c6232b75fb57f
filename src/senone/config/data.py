"""Where frames come from."""

from dataclasses import dataclass, field

from senone.config.checks import require, require_choice
from senone.phonemes import PHONEMES


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
class AudioConfig:
    """Recordings with alignments, to be made into the contest's files."""

    audio: str | None = None  # folder of recordings: SPEAKER/.../NAME.wav, or those below train, dev and test
    alignments: str | None = None  # null: beside the recordings; a folder like audio; or a CTM file
    out: str = "data/recorded"
    tier: str = "phones"  # of a TextGrid
    phonemes: list[str] = field(default_factory=list)  # an aligner's label and the phoneme it is: bcl:SIL
    speaker_folder: int = 1  # which folder's name says who speaks; 0: each recording stands alone
    dev: float = 0.1  # share of the utterances, at least
    test: float = 0.1
    seed: int = 0  # of who is in which split
    on_bad: str = "refuse"  # a recording or alignment that cannot be used

    def __post_init__(self) -> None:
        require(bool(self.audio), "audio", self.audio, "a folder of recordings")
        for split in ("dev", "test"):
            share = getattr(self, split)
            require(0 < share < 0.5, split, share, "a share above 0 and below 0.5")
        for pair in self.phonemes:
            label, colon, _ = pair.rpartition(":")
            require(bool(label and colon), "phonemes", pair, "LABEL:PHONEME, as bcl:SIL")
            require_choice(f"phonemes, {label}", self.mapping[label], PHONEMES)
        require(self.speaker_folder >= 0, "speaker_folder", self.speaker_folder, "0 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require_choice("on_bad", self.on_bad, ("refuse", "drop"))

    @property
    def mapping(self) -> dict[str, str]:
        """The phoneme of each label in ``phonemes``."""
        pairs = (pair.rpartition(":") for pair in self.phonemes)
        return {label: phoneme for label, _, phoneme in pairs}


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
        require(classes is None or 2 <= classes <= 32768, "data.num_classes", classes, "2 to 32768")
