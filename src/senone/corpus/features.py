"""Log-mel features: what the contest's files hold, from any audio."""

import numpy as np

NUM_BINS = 40
FRAME_LENGTH = 0.025  # seconds


def frame_rate(sample_rate: int) -> float:
    """Frames a second: 100, or a little more where 10 ms are no whole number of samples, as at 22,050 Hz;
    Kaldi steps by whole ones."""
    return sample_rate / (sample_rate // 100)


def log_mel(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """(S,) samples, -1 to 1 or int16, -> (T, 40) float32 natural logs of mel energies, 25 ms every 10 ms.

    Kaldi's filter bank (20 Hz to half the sample rate, Povey window, pre-emphasis 0.97) on samples of int16
    scale, without dither, so that the same audio gives the same features. ``snip_edges`` is off: frame t is
    centred on (t + 0.5) * 10 ms, the audio is mirrored at its ends, and T = round(seconds * 100), so a time
    in seconds is a frame number without an offset for the window; for 100 read ``frame_rate``.
    Raises ValueError if the audio is not one channel of finite samples or shorter than a window, RuntimeError
    without the wheel.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(
            f"audio: expected one channel, (samples,), got {audio.shape}; mix the channels down first"
        )
    if not np.issubdtype(audio.dtype, np.floating) and audio.dtype != np.int16:
        raise ValueError(f"audio: expected floats from -1 to 1 or int16, got {audio.dtype}")
    if len(audio) < FRAME_LENGTH * sample_rate:
        raise ValueError(f"audio: {len(audio)} samples at {sample_rate} Hz are less than one window of 25 ms")
    if not np.isfinite(audio).all():
        raise ValueError("audio: NaN or infinite samples")
    try:
        import kaldi_native_fbank
    except ImportError as error:
        raise RuntimeError(
            "log-mel features need the package kaldi-native-fbank: pip install 'senone[corpus]'"
        ) from error

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0.0  # the default adds noise that differs from run to run
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = NUM_BINS  # the default is 23
    samples = audio.astype(np.float32)
    if audio.dtype != np.int16:
        samples *= 32768
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(sample_rate, samples.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(t) for t in range(bank.num_frames_ready)])
