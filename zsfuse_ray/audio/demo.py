"""One minute of synthetic speech-like audio, for the first run, the tests and the benchmark.

Source-filter synthesis (Fant 1960): glottal pulses or noise, filtered by the formants of vowels, in phrases
with pauses; each recording has a different prosody. No real speech, no defined emotion.
"""

import io
import re
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
RECORDINGS = 4
SECONDS = 15.0

# first three formants in Hz of a, e, i, o, u
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
BANDWIDTHS = (60, 90, 150)


@dataclass(frozen=True)
class Prosody:
    """Pitch in Hz, its range in semitones, seconds per syllable, loudness, share of noise."""

    pitch: float
    range: float
    syllable: float
    loudness: float
    breath: float


PROSODIES = (
    Prosody(pitch=120, range=3, syllable=0.20, loudness=0.30, breath=0.02),  # even
    Prosody(pitch=220, range=10, syllable=0.16, loudness=0.45, breath=0.02),  # lively
    Prosody(pitch=100, range=1, syllable=0.32, loudness=0.15, breath=0.10),  # dull
    Prosody(pitch=180, range=7, syllable=0.13, loudness=0.80, breath=0.05),  # pressed
)


def demo_uris() -> list[str]:
    """Return the URIs of the demo archive; ``audio.sources.open_audio`` opens them."""
    return [f"demo:{n}" for n in range(RECORDINGS)]


def is_demo(uri: str) -> bool:
    """Whether a URI is that of a synthetic recording, ``demo:0`` …"""
    return re.fullmatch(r"demo:[0-9]{1,6}", uri) is not None


def demo_wav(n: int) -> bytes:
    """Return recording ``n`` of the demo archive as a WAV file; the bytes are deterministic."""
    samples = speech_like(SECONDS, PROSODIES[n % len(PROSODIES)], seed=n)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def speech_like(seconds: float, prosody: Prosody, seed: int, rate: int = RATE) -> NDArray[np.float64]:
    """Return phrases of vowels with pauses, shape (seconds · rate,), peaks near ``prosody.loudness``."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * rate))
    at = int(0.4 * rate)
    while at < len(out) - rate:
        syllables = int(rng.integers(8, 16))
        phrase = np.concatenate([_syllable(rng, prosody, i / syllables, rate) for i in range(syllables)])
        phrase *= prosody.loudness / np.abs(phrase).max()
        room = out[at : at + len(phrase)]
        room += phrase[: len(room)]
        at += len(phrase) + int(rng.uniform(0.5, 1.0) * rate)
    return out + 1e-4 * rng.standard_normal(len(out))


def _syllable(rng: np.random.Generator, prosody: Prosody, progress: float, rate: int) -> NDArray[np.float64]:
    """Return a noise burst and a vowel; pitch falls over the phrase, varying within the prosody's range."""
    n = int(prosody.syllable * rng.uniform(0.8, 1.3) * rate)
    t = np.linspace(0, 1, n)
    first, last = rng.uniform(-0.5, 0.5, 2)
    glide = np.linspace(first, last, n) + 0.4 * (0.5 - progress)
    phase = np.cumsum(prosody.pitch * 2 ** (prosody.range * glide / 12) / rate)
    # a ramp that rises and drops once per period: the slope of a glottal pulse
    source = (phase % 1.0) ** 2 - 1 / 3 + prosody.breath * rng.standard_normal(n)
    old, new = (np.array(VOWELS[i]) for i in rng.integers(0, len(VOWELS), 2))
    half = n // 2
    voiced = np.concatenate(
        [_formants(source[:half], old, rate), _formants(source[half:], (old + new) / 2, rate)]
    )
    consonant = (
        np.convolve(rng.standard_normal(n), [1, -0.9], mode="same")
        * np.exp(-t * 25)
        * np.abs(voiced).max()
        * 0.15
    )
    return voiced * np.sin(np.pi * t) ** 0.5 + consonant


def _formants(source: NDArray[np.float64], formants: NDArray, rate: int) -> NDArray[np.float64]:
    """Filter by two-pole resonators in series."""
    from scipy.signal import lfilter  # lazy import: slow, and only the demo needs it

    for frequency, bandwidth in zip(formants, BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / rate)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
        source = np.asarray(lfilter([sum(poles)], poles, source))
    return source
