import sys

import numpy as np
import pytest

from senone.corpus.features import NUM_BINS, log_mel

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def mel_of(hertz: float) -> float:
    return 1127 * np.log(1 + hertz / 700)


def test_features_are_forty_bins_every_ten_milliseconds() -> None:
    for seconds in (0.03, 1.0, 1.234):
        mel = log_mel(tone(440, seconds), RATE)
        assert mel.shape == (round(seconds * 100), NUM_BINS)
        assert mel.dtype == np.float32
        assert np.isfinite(mel).all()


@pytest.mark.parametrize("hertz", [300, 1000, 3000, 6000])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_tone_is_loudest_in_its_own_bin(hertz: float, rate: int) -> None:
    edges = np.linspace(mel_of(20), mel_of(rate / 2), NUM_BINS + 2)
    centre = np.abs(edges[1:-1] - mel_of(hertz)).argmin()
    assert log_mel(tone(hertz, rate=rate), rate)[50].argmax() == centre


def test_frame_t_is_centred_on_its_ten_milliseconds() -> None:
    click = np.zeros(RATE, np.float32)
    click[160 * 40 + 80] = 0.5  # 0.405 s, the middle of frame 40
    energy = log_mel(click, RATE).sum(axis=1)
    assert energy.argmax() == 40
    assert energy[39] == pytest.approx(energy[41], rel=0.01)


def test_the_same_audio_gives_the_same_features() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    np.testing.assert_array_equal(log_mel(noise, RATE), log_mel(noise, RATE))


def test_int16_audio_and_floats_from_minus_one_to_one_agree() -> None:
    integers = np.random.default_rng(0).integers(-3000, 3000, RATE).astype(np.int16)
    np.testing.assert_allclose(log_mel(integers, RATE), log_mel(integers / 32768, RATE), rtol=1e-5, atol=1e-4)


def test_energies_are_natural_logarithms_of_power() -> None:
    audio = np.random.default_rng(0).normal(0, 0.01, RATE)
    louder = log_mel(10 * audio, RATE) - log_mel(audio, RATE)
    np.testing.assert_allclose(louder, 2 * np.log(10), atol=1e-2)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((RATE, 2)), r"one channel.*\(16000, 2\)"),
        (np.zeros(RATE, np.int64), "int16, got int64"),
        (np.zeros(100), "100 samples at 16000 Hz are less than one window"),
        (np.full(RATE, np.nan), "NaN or infinite"),
    ],
)
def test_audio_that_is_no_audio_is_refused(audio: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_mel(audio, RATE)


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(RuntimeError, match=r"kaldi-native-fbank: pip install 'senone\[corpus\]'"):
        log_mel(tone(440), RATE)
