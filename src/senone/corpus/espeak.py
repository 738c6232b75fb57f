"""The speech engine: text in, samples and the times of its phonemes out.

espeak-ng (GPLv3+) comes as a wheel, ``espeakng-loader``, with its data; ctypes loads the library.
What it says depends on all that it has said before, and two threads in it crash: one process speaks for one
speaker, in a fixed order, and ends. ``synthesis`` starts those processes; nothing else should make an Engine.
"""

import ctypes
from pathlib import Path
from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 22050  # Hz, espeak's own

# speak_lib.h: synchronous output; phoneme events, and an error code instead of exit()
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 0x0001, 0x8000
_UTF8, _PHONEME_INPUT, _END_PAUSE = 0x0001, 0x0100, 0x1000
_RATE = 1
_LIST_TERMINATED, _PHONEME = 0, 7


class _Identity(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("mnemonic", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds, rounded: too coarse for labels
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Marker(NamedTuple):
    """The place in the audio where espeak begins a phoneme, in its own mnemonics and without stress marks."""

    mnemonic: str
    sample: int


class Engine:
    """espeak-ng with one voice; see the module's warning: one per process."""

    def __init__(self, voice: Path, words_per_minute: int) -> None:
        """Load a voice file and set the rate. RuntimeError if the library or the voice does not load."""
        import espeakng_loader

        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise RuntimeError(f"espeak-ng does not load on this machine: {error}") from error
        data = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise RuntimeError(
                f"espeak-ng: expected {SAMPLE_RATE} Hz, got {rate}; can it read {data.decode()}, "
                "and is that path shorter than 160 characters?"
            )
        self._samples: list[np.ndarray] = []
        self._markers: list[Marker] = []
        self._callback = _Callback(self._collect)  # espeak keeps a bare pointer: the reference must live
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByFile(str(voice).encode()) != 0:
            raise RuntimeError(
                f"espeak-ng cannot load the voice {voice}; paths over 50 characters are too long"
            )
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath is noise, which the clock would seed

    def _collect(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while (event := events[index]).type != _LIST_TERMINATED:
            if event.type == _PHONEME:
                mnemonic = event.id.mnemonic.decode().strip("',%=")
                self._markers.append(Marker(mnemonic, event.sample))
            index += 1
        return 0

    def say(self, text: str) -> tuple[np.ndarray, list[Marker]]:
        """Text, or mnemonics in [[...]], -> (S,) int16 samples at 22050 Hz and the markers, in order."""
        self._samples.clear()
        self._markers.clear()
        encoded = text.encode()
        flags = _UTF8 | _PHONEME_INPUT | _END_PAUSE
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, flags, None, None)
        if status != 0 or not self._samples:
            raise RuntimeError(f"espeak-ng said nothing (status {status}) for {text!r}")
        return np.concatenate(self._samples), list(self._markers)
