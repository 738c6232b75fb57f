"""From clean speech to a recording: microphone, room and background noise, and what people do in pauses."""

import math
from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 16000  # Hz, of the recording
LOWEST = 20.0  # Hz, where log scales begin


Range = tuple[float, float]  # of a uniform distribution


class Burst(NamedTuple):
    """Noise that swells and dies away in a band: the recipe of a breath, a cough, a smack, a knock."""

    seconds: Range
    centre: Range  # Hz, uniform on a log scale
    octaves: Range  # standard deviation of the band
    attack: Range  # share of the duration until the peak
    decay: Range  # exponent: 1 fades evenly, 4 dies at once
    level: Range  # dB relative to the speech
    repeats: int  # at most


BURSTS = {
    "+BREATH+": Burst((0.25, 0.6), (1000, 2500), (0.5, 0.9), (0.3, 0.7), (0.8, 1.2), (-24, -14), 1),
    "+COUGH+": Burst((0.12, 0.25), (500, 1200), (1.2, 1.8), (0.02, 0.1), (1.5, 3.0), (-6, 3), 3),
    "+NOISE+": Burst((0.1, 0.5), (80, 5000), (0.2, 1.5), (0.02, 0.9), (0.8, 4.0), (-18, 0), 1),
    "+SMACK+": Burst((0.03, 0.06), (2500, 4500), (0.5, 0.8), (0.02, 0.1), (3.0, 5.0), (-14, -4), 2),
}


def burst_noise(filler: str, speech_level: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """(S,) float64 samples of one filler of BURSTS, loud in proportion to ``speech_level`` (RMS)."""
    recipe = BURSTS[filler]
    pieces = []
    for _ in range(rng.integers(1, recipe.repeats, endpoint=True)):
        count = int(rng.uniform(*recipe.seconds) * sample_rate)
        octave = np.log2(np.maximum(np.fft.rfftfreq(count, 1 / sample_rate), LOWEST))
        distance = (octave - rng.uniform(*np.log2(recipe.centre))) / rng.uniform(*recipe.octaves)
        spectrum = np.fft.rfft(rng.standard_normal(count)) * np.exp(-0.5 * distance**2)
        attack, decay = rng.uniform(*recipe.attack), rng.uniform(*recipe.decay)
        time = np.linspace(0, 1, count)
        envelope = np.minimum(time / attack, 1) * ((1 - time) / (1 - attack)).clip(0, 1) ** decay
        piece = np.fft.irfft(spectrum, count) * envelope
        pieces.append(piece / np.sqrt(np.mean(piece**2)))
    return np.concatenate(pieces) * speech_level * 10 ** (rng.uniform(*recipe.level) / 20)


class Channel(NamedTuple):
    """A microphone in a room, the same for all utterances of a speaker."""

    response: np.ndarray  # (9,) dB at BANDS, joined by straight lines
    noise_tilt: float  # dB an octave
    reverberation_time: float  # seconds until the room is 60 dB down
    reverberation_level: float  # dB relative to the direct sound


SNR = (10, 35)  # dB
PEAK = (0.1, 0.9)
LONGEST_ECHO = 0.4  # seconds
BANDS = np.log2([62, 125, 250, 500, 1000, 2000, 4000, 6000, 8000])


def draw_channel(rng: np.random.Generator) -> Channel:
    """A microphone and room by chance: a few dB up and down over the octaves, light reverberation."""
    response = np.cumsum(rng.normal(0, 2.5, len(BANDS)))  # neighbouring bands go together
    response[0] -= rng.uniform(0, 15)  # small microphones lose the lows, and some the highs
    response[-1] -= rng.uniform(0, 10)
    return Channel(
        response=response - response.mean(),
        noise_tilt=rng.uniform(-6, 0),
        reverberation_time=rng.uniform(0.1, 0.4),
        reverberation_level=rng.uniform(-20, -8),
    )


def record(speech: np.ndarray, sample_rate: int, channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """(S,) clean samples above 16 kHz, zeros in the pauses -> (S * 16000 / sample_rate,) float32 at 16 kHz.

    Resampling, the channel's response and the room are linear, so one spectrum carries all three: it ends at
    8 kHz and is multiplied. Then comes noise, 10 to 35 dB below the speech, and a level, peak 0.1 to 0.9.
    """
    tail = round(LONGEST_ECHO * sample_rate)  # silence keeps the end's echo from wrapping to the start
    divisor = math.gcd(sample_rate, SAMPLE_RATE)
    block = sample_rate // divisor  # 441 samples at 22050 Hz are 320 at 16 kHz
    blocks = -(-(len(speech) + tail) // block)
    count = blocks * (SAMPLE_RATE // divisor)
    spectrum = np.fft.rfft(speech, blocks * block)[: count // 2 + 1]
    octave = np.log2(np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), LOWEST))
    spectrum *= 10 ** (np.interp(octave, BANDS, channel.response) / 20)
    spectrum *= np.fft.rfft(_room(channel, rng), count)
    recording = np.fft.irfft(spectrum, count)[: len(speech) * SAMPLE_RATE // sample_rate]

    hiss = np.fft.rfft(rng.standard_normal(count)) * 10 ** (channel.noise_tilt * octave / 20)
    noise = np.fft.irfft(hiss, count)[: len(recording)]
    spoken = np.mean(recording**2) / np.mean(speech != 0)  # power, pauses left out
    noise *= np.sqrt(spoken / np.mean(noise**2)) * 10 ** (-rng.uniform(*SNR) / 20)
    recording += noise
    return (recording * rng.uniform(*PEAK) / np.abs(recording).max()).astype(np.float32)


def _room(channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """An impulse response: the direct sound, and noise that dies away by 60 dB in the reverberation time."""
    time = np.arange(round(LONGEST_ECHO * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / channel.reverberation_time)
    response[time < 0.003] = 0  # the walls are a metre away
    response *= 10 ** (channel.reverberation_level / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1
    return response
