"""Recordings with alignments, as the contest's files: python scripts/prepare_audio.py audio=DIR [out=DIR]"""

from senone.config import AudioConfig
from senone.corpus.audio import prepare_audio
from senone.hydra_glue import script
from senone.phonemes import NUM_CLASSES


@script(AudioConfig, "audio")
def main(config: AudioConfig) -> None:
    print("\n".join(prepare_audio(config)))
    print(f"train on them: train.py data=contest data.root={config.out} data.num_classes={NUM_CLASSES}")


if __name__ == "__main__":
    main()
