"""Speech made by the program, in the contest's files: python scripts/make_corpus.py [size=small] [seed=1]"""

from senone.config import CorpusConfig
from senone.corpus.synthesis import explicit_sizes, make_corpus
from senone.dataset import corpus_folder
from senone.hydra_glue import script


@script(CorpusConfig, "corpus")
def main(config: CorpusConfig) -> None:
    folder = corpus_folder(config)
    manifest = make_corpus(
        folder,
        size=config.size,
        seed=config.seed,
        workers=config.workers,
        sizes=explicit_sizes(config),
    )
    for split, counts in manifest["splits"].items():
        print(f"{split}: {counts['utterances']} utterances, {counts['frames']} frames")
    print(f"{manifest['dev_words_unseen_in_train']:.1%} of the words of dev are not in train")
    print(f"{folder}: sha256 {manifest['sha256']}")


if __name__ == "__main__":
    main()
