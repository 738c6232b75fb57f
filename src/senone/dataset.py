"""Three splits, opened as configured."""

from dataclasses import dataclass
from pathlib import Path

from senone.config import CorpusConfig, DataConfig
from senone.corpus.contest import SPLITS, find_contest, require_bins
from senone.corpus.synthesis import explicit_sizes, make_corpus
from senone.frames import FrameStore
from senone.preparation import open_store


@dataclass(frozen=True)
class Dataset:
    """The stores of train, dev and test, and the folder that their files lie in."""

    root: Path
    train: FrameStore
    dev: FrameStore
    test: FrameStore

    @property
    def splits(self) -> dict[str, FrameStore]:
        return {"train": self.train, "dev": self.dev, "test": self.test}


def open_dataset(data: DataConfig, corpus: CorpusConfig, context: int, *, progress: bool = True) -> Dataset:
    """Make the corpus if it is asked for and not there, check the files, open their stores for windows of
    ``context`` frames on each side. What is wrong with the files raises ValueError."""
    root = Path(data.root) if data.root else corpus_folder(corpus)
    if data.name == "made":
        make_corpus(
            root,
            size=corpus.size,
            seed=corpus.seed,
            workers=corpus.workers,
            sizes=explicit_sizes(corpus),
            progress=progress,
        )
    stores: dict[str, FrameStore] = {}
    num_classes = data.num_classes
    for name, split in find_contest(root).items():  # train comes first, and says what dev may hold
        stores[name] = open_store(
            split,
            Path(data.cache),
            context=context,
            num_classes=num_classes,
            normalise=data.normalise,
            utterances_per_speaker=data.utterances_per_speaker,
            guard=data.guard,
            on_bad=data.on_bad,
            progress=progress,
        )
        require_bins(name, stores[name].num_bins, stores["train"].num_bins)
        num_classes = stores[name].num_classes
    return Dataset(root, **stores)


def corpus_folder(corpus: CorpusConfig) -> Path:
    """Where a made corpus lands: corpora of different sizes and seeds stand side by side."""
    sizes = {split: getattr(corpus, split) for split in SPLITS}
    explicit = "".join(f"-{split}-{size[0]}x{size[1]}" for split, size in sizes.items() if size)
    return Path(corpus.root) / f"made-{corpus.size}{explicit}-{corpus.seed}"
