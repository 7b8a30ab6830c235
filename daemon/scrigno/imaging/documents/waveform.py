# SPDX-License-Identifier: Apache-2.0
"""Samples of waveforms in physical units, and sound as WAV (PS3.3 C.10.9). Worker only."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from scrigno.imaging.cells import Pixels
from scrigno.imaging.errors import DecodeFailed, NoDocument
from scrigno.imaging.luts import number

from .report import meaning

MAX_SAMPLES: Final = 64 << 20
MAX_CHANNELS: Final = 512
_KINDS: Final = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}
_AUDIO: Final = frozenset({"MB", "AB"})


@dataclass(frozen=True, slots=True)
class Channel:
    """One trace: samples in `unit`, and its name."""

    name: str
    unit: str
    samples: Pixels


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that were sampled together."""

    label: str
    rate: float  # samples of a channel per second
    channels: list[Channel]

    @property
    def seconds(self) -> float:
        """Return how long it lasts."""
        return len(self.channels[0].samples) / self.rate if self.channels else 0.0


def groups_of(dataset: Dataset) -> list[Group]:
    """Return the multiplex groups; raises NoDocument, DecodeFailed."""
    sequence = dataset.get("WaveformSequence")
    if not sequence:
        raise NoDocument("The object has no waveform.")
    little = dataset.original_encoding[1] is not False
    return [_group(item, little=little) for item in sequence]


def samples_of(item: Dataset, *, little: bool) -> tuple[Pixels, float]:
    """Return the samples as stored, time × channels, and the rate; raises DecodeFailed."""
    channels = int(number(item.get("NumberOfWaveformChannels")) or 0)
    count = int(number(item.get("NumberOfWaveformSamples")) or 0)
    rate = number(item.get("SamplingFrequency")) or 0.0
    bits = int(number(item.get("WaveformBitsAllocated")) or 16)
    kind = str(item.get("WaveformSampleInterpretation") or "SS")
    content = item.get("WaveformData")
    if not isinstance(content, bytes) or not 0 < channels <= MAX_CHANNELS or rate <= 0:
        raise DecodeFailed("The waveform is not described.")
    if not 0 < count * channels <= MAX_SAMPLES:
        raise DecodeFailed("The waveform is larger than a worker takes.")
    if kind in _AUDIO:
        stored = _companded(content, kind)
    else:
        width = _KINDS.get(kind, f"i{max(1, bits // 8)}")
        order = "<" if little else ">"
        whole = np.dtype(order + width)
        stored = np.frombuffer(content[: len(content) // whole.itemsize * whole.itemsize], whole)
    if stored.size < count * channels:
        raise DecodeFailed("The waveform holds fewer samples than it says.")
    native = stored.dtype.newbyteorder("=")
    return stored[: count * channels].reshape(count, channels).astype(native), rate


def _companded(content: bytes, kind: str) -> Pixels:
    """Expand 8 bit µ-law or A-law (ITU-T G.711) to 16 bit."""
    codes = np.arange(256, dtype=np.int32)
    if kind == "MB":
        codes = ~codes & 0xFF
        size = (((codes & 0x0F) << 3) + 0x84 << ((codes & 0x70) >> 4)) - 0x84
        table = np.where(codes & 0x80, -size, size)
    else:
        codes = codes ^ 0x55
        exponent = (codes & 0x70) >> 4
        mantissa = ((codes & 0x0F) << 4) + 8
        size = np.where(exponent > 0, (mantissa + 0x100) << np.maximum(exponent - 1, 0), mantissa)
        table = np.where(codes & 0x80, size, -size)
    expanded: Pixels = table.astype(np.int16)[np.frombuffer(content, np.uint8)]
    return expanded


def _group(item: Dataset, *, little: bool) -> Group:
    stored, rate = samples_of(item, little=little)
    defined = list(item.get("ChannelDefinitionSequence") or ())
    channels = []
    for at in range(stored.shape[1]):
        definition = defined[at] if at < len(defined) else Dataset()
        name = meaning(definition.get("ChannelSourceSequence")) or str(
            definition.get("ChannelLabel") or f"channel {at + 1}"
        )
        units = definition.get("ChannelSensitivityUnitsSequence")
        unit = str(units[0].get("CodeValue") or "") if units else ""
        scale = number(definition.get("ChannelSensitivity"))
        correction = number(definition.get("ChannelSensitivityCorrectionFactor"))
        baseline = number(definition.get("ChannelBaseline")) or 0.0
        factor = (scale if scale else 1.0) * (correction if correction else 1.0)
        samples = stored[:, at].astype(np.float32) * np.float32(factor) + np.float32(baseline)
        channels.append(Channel(name, unit, samples))
    return Group(str(item.get("MultiplexGroupLabel") or ""), rate, channels)


def as_wav(dataset: Dataset) -> bytes:
    """Return the first group of an audio object as a WAV file of 8 or 16 bit."""
    sequence = dataset.get("WaveformSequence")
    if not sequence:
        raise NoDocument("The object has no sound.")
    little = dataset.original_encoding[1] is not False
    stored, rate = samples_of(sequence[0], little=little)
    stored = stored[:, :2]
    if stored.dtype == np.int8:  # WAV has unsigned bytes and signed words
        stored = (stored.astype(np.int16) + 128).astype(np.uint8)
    elif stored.dtype == np.uint16:
        stored = (stored.astype(np.int32) - 32768).astype(np.int16)
    elif stored.dtype.itemsize == 4:
        stored = (stored >> 16).astype(np.int16)
    content = np.ascontiguousarray(stored).tobytes()
    channels, width = stored.shape[1], stored.dtype.itemsize
    hertz = max(1, round(rate))
    form = struct.pack(
        "<HHIIHH", 1, channels, hertz, hertz * channels * width, channels * width, 8 * width
    )
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
