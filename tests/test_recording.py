import numpy as np
import pytest

from senone.corpus.recording import BANDS, BURSTS, Channel, burst_noise, draw_channel, record

RATE = 22050
PLAIN = Channel(np.zeros(len(BANDS)), noise_tilt=0, reverberation_time=0.1, reverberation_level=-200)


def tones(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * 440 * time) + 0.5 * np.sin(2 * np.pi * 3000 * time)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def test_a_plain_channel_only_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.corpus.recording.SNR", (100, 100))
    recorded = record(tones(1, RATE), RATE, PLAIN, np.random.default_rng(0))
    assert recorded.dtype == np.float32
    assert len(recorded) == 16000
    assert correlation(recorded[200:-200], tones(1, 16000)[200:-200]) > 0.9999


def test_what_16_khz_cannot_hold_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.corpus.recording.SNR", (200, 200))
    time = np.arange(RATE) / RATE
    high, low = np.sin(2 * np.pi * 9500 * time), np.sin(2 * np.pi * 1000 * time)
    recorded = record(low + high, RATE, PLAIN, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(recorded[4000:12000] * np.hanning(8000)))
    assert spectrum[3250] < 1e-3 * spectrum[500]  # 6500 Hz is where 9500 Hz would alias to


def test_noise_lies_10_to_35_db_below_the_speech() -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(40):
        speech = np.concatenate([tones(1, RATE), np.zeros(RATE)])
        recorded = record(speech, RATE, PLAIN, rng)
        noise = np.mean(recorded[20000:] ** 2)
        ratios.append(10 * np.log10(np.mean(recorded[:15000] ** 2) / noise - 1))
    assert 9.5 < min(ratios) < 15
    assert 30 < max(ratios) < 35.5


def test_the_channel_shapes_the_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.corpus.recording.SNR", (200, 200))
    response = np.zeros(len(BANDS))
    response[5:] = -20  # from 2 kHz on
    speech = np.random.default_rng(0).standard_normal(4 * RATE)
    recorded = record(speech, RATE, PLAIN._replace(response=response), np.random.default_rng(0))
    power = np.abs(np.fft.rfft(recorded)) ** 2
    low, high = power[4 * 200 : 4 * 900].mean(), power[4 * 2500 : 4 * 7500].mean()
    assert 10 * np.log10(low / high) == pytest.approx(20, abs=1)


def test_a_room_rings_on_and_does_not_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.corpus.recording.SNR", (200, 200))
    speech = np.zeros(RATE)
    speech[RATE // 2 :] = tones(0.5, RATE)
    speech[-RATE // 4 :] = 0
    room = PLAIN._replace(reverberation_level=-10, reverberation_time=0.4)
    recorded = record(speech, RATE, room, np.random.default_rng(0))
    direct = np.mean(recorded[9000:11000] ** 2)
    assert 0 < np.mean(recorded[12500:14000] ** 2) < direct / 10
    assert np.mean(recorded[:7000] ** 2) < 1e-8 * direct


def test_channels_differ_and_are_light() -> None:
    rng = np.random.default_rng(0)
    channels = [draw_channel(rng) for _ in range(200)]
    assert len({channel.response.tobytes() for channel in channels}) == 200
    assert max(channel.reverberation_level for channel in channels) <= -8
    assert max(channel.reverberation_time for channel in channels) <= 0.4


@pytest.mark.parametrize("filler", BURSTS)
def test_fillers_are_as_long_and_loud_as_their_recipe_says(filler: str) -> None:
    rng = np.random.default_rng(0)
    recipe = BURSTS[filler]
    for _ in range(30):
        noise = burst_noise(filler, 1000.0, RATE, rng)
        assert recipe.seconds[0] - 0.001 <= len(noise) / RATE <= recipe.repeats * recipe.seconds[1]
        level = 20 * np.log10(np.sqrt(np.mean(noise**2)) / 1000)
        assert recipe.level[0] - 0.1 <= level <= recipe.level[1] + 0.1


def test_a_smack_is_higher_than_a_cough() -> None:
    rng = np.random.default_rng(0)

    def pitch(filler: str) -> float:
        noise = np.concatenate([burst_noise(filler, 1.0, RATE, rng) for _ in range(30)])
        power = np.abs(np.fft.rfft(noise)) ** 2
        return float((np.fft.rfftfreq(len(noise), 1 / RATE) * power).sum() / power.sum())

    assert pitch("+SMACK+") > pitch("+BREATH+") > pitch("+COUGH+")
