"""One made-up speaker reads sentences: the work of one process, started by ``synthesis``.

    python -m senone.corpus.speaker '{"split": "train", "number": 0, "utterances": 10, "seed": 0}'

writes train-0.npz into the working directory: features and labels of all utterances, one after the other,
the number of frames of each, and the sentences; and train-0.voice, how the speaker was made.
"""

import json
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np

from senone.corpus.alignment import Segment, segments, state_labels
from senone.corpus.contest import SPLITS
from senone.corpus.espeak import SAMPLE_RATE, Engine
from senone.corpus.features import log_mel
from senone.corpus.recording import BURSTS, burst_noise, draw_channel, record
from senone.corpus.recording import SAMPLE_RATE as RECORDING_RATE
from senone.corpus.sentences import make_sentence
from senone.phonemes import FILLERS

RATE = (130, 220)  # words a minute
JITTER = 0.007  # seconds, standard deviation of a phoneme's edge: aligners are no better
FILLER_RATE = 0.1  # of the pauses
SPOKEN_FILLERS = {"+UH+": "[[V:]]", "+UM+": "[[V:m]]"}


def speaker_rng(seed: int, split: str, number: int) -> np.random.Generator:
    """A speaker's own source of chance: no two speakers of a corpus, whatever their splits, share theirs."""
    return np.random.default_rng([seed, SPLITS.index(split), number])


def speaker_name(split: str, number: int) -> str:
    """What the files of a speaker are called."""
    return f"{split}-{number}"


def draw_voice(rng: np.random.Generator) -> str:
    """The text of an espeak voice file: American English from a vocal tract, larynx and temper of its own."""
    high = rng.random() < 0.5  # the ranges of women's and men's voices, and tracts a sixth shorter or not
    pitch = rng.normal(195, 20) if high else rng.normal(108, 15)
    tract = rng.normal(113 if high else 99, 4.5)
    lines = [
        "language en-us",
        "name made-up",
        "phonemes en-us",
        "dictionary en",
        # what espeak's own voice en-us sets
        "dictrules 3 6",
        "stressLength 140 120 190 170 0 0 255 300",
        "stressAmp 17 16 19 19 19 19 21 19",
        "replace 03 I i",
        "replace 03 I2 i",
        f"pitch {pitch:.0f} {pitch * rng.uniform(1.15, 1.7):.0f}",
        f"flutter {rng.integers(0, 9)}",
        f"roughness {rng.integers(0, 4)}",
        f"voicing {rng.integers(80, 121)}",
        f"consonants {rng.integers(70, 131)} {rng.integers(70, 131)}",
    ]
    for formant in range(9):
        frequency = tract * rng.normal(1, 0.07)
        lines.append(f"formant {formant} {frequency:.0f} {rng.integers(55, 146)} {rng.integers(75, 161)}")
    if rng.random() < 0.6:
        lines.append("breath " + " ".join(str(value) for value in rng.integers(0, 16, 8)))
    tone = " ".join(f"{hertz} {rng.integers(60, 200)}" for hertz in (600, 1200, 2000, 3500))
    return "\n".join([*lines, f"tone {tone}", ""])


def pause(engine: Engine, fillers: Iterator[str], level: float, rng: np.random.Generator) -> list[Segment]:
    """A pause in speech at ``level`` (RMS): silence, and one time in ten the next filler in silence."""

    def silence(median: float) -> Segment:
        seconds = np.clip(median * rng.lognormal(0, 0.5), 0.05, 0.8)
        return Segment("SIL", np.zeros(int(seconds * SAMPLE_RATE)))

    if rng.random() >= FILLER_RATE:
        return [silence(0.22)]
    filler = next(fillers)
    if filler in BURSTS:
        samples = burst_noise(filler, level, SAMPLE_RATE, rng)
    else:
        spoken = segments(*engine.say(SPOKEN_FILLERS[filler]))
        samples = np.concatenate([part.samples for part in spoken if part.phoneme != "SIL"])
    return [silence(0.14), Segment(filler, samples), silence(0.14)]


def speak(engine: Engine, sentence: str, fillers: Iterator[str], rng: np.random.Generator) -> list[Segment]:
    """A sentence with its pauses, the first before the first word: segments that make up the utterance."""
    spoken = segments(*engine.say(sentence))
    sounding = np.concatenate([part.samples for part in spoken if part.phoneme != "SIL"])
    level = float(np.sqrt(np.mean(sounding.astype(float) ** 2)))
    utterance = pause(engine, fillers, level, rng)
    for part in spoken:
        utterance += pause(engine, fillers, level, rng) if part.clause_end else [part]
    return utterance


def make_speaker(job: dict) -> None:
    """Do one job of the module's docstring and write its files."""
    rng = speaker_rng(job["seed"], job["split"], job["number"])
    name = speaker_name(job["split"], job["number"])
    voice = Path(f"{name}.voice")  # relative: espeak has no room for long paths
    voice.write_text(draw_voice(rng))
    engine = Engine(voice, round(rng.uniform(*RATE)))
    channel = draw_channel(rng)
    first = job["number"] % len(FILLERS)  # in turn, so that all of them occur in a handful of speakers
    fillers = cycle(FILLERS[first:] + FILLERS[:first])
    sentences, features, labels = [], [], []
    for _ in range(job["utterances"]):
        sentence = make_sentence(rng)
        utterance = speak(engine, sentence, fillers, rng)
        speech = np.concatenate([part.samples for part in utterance]).astype(float)
        mel = log_mel(record(speech, SAMPLE_RATE, channel, rng), RECORDING_RATE)
        times = np.cumsum([0, *(len(part.samples) for part in utterance)]) / SAMPLE_RATE
        times[1:-1] += rng.normal(0, JITTER, len(times) - 2)
        sentences.append(sentence)
        features.append(mel)
        labels.append(state_labels([part.phoneme for part in utterance], times, len(mel)))
    np.savez(
        f"{name}.npz",
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        frames=[len(mel) for mel in features],
        sentences=sentences,
    )


if __name__ == "__main__":
    make_speaker(json.loads(sys.argv[1]))
