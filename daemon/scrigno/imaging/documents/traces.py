# SPDX-License-Identifier: Apache-2.0
"""Waveforms as SVG on millimetre paper: an ECG as it is printed, others one below the other.

25 mm a second and 10 mm a millivolt; the drawing's unit is the millimetre. Worker process only.
"""

import re
from html import escape
from typing import Final

import numpy as np

from scrigno.imaging.cells import Pixels

from .waveform import Channel, Group

SPEED: Final = 25.0  # mm per second
GAIN: Final = 10.0  # mm per millivolt
MAX_SECONDS: Final = 30.0
MAX_POINTS: Final = 12_000  # of one trace; more are drawn as their lowest and highest
SHORT_SECONDS: Final = 5.0
LAYOUT: Final = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM: Final = "II"
_LEADS: Final = {name.casefold(): name for row in LAYOUT for name in row}
_ROW_MM: Final = 30.0
_MARGIN_MM: Final = 5.0
_TRACE_MM: Final = 22.0  # height of a trace that has no millivolts
_MILLIVOLTS: Final = {"uv": 1e-3, "µv": 1e-3, "mv": 1.0, "v": 1e3, "nv": 1e-6}
_STYLE: Final = (
    ".p{fill:#fff}.m{stroke:#f6c9cd;stroke-width:.1}.c{stroke:#eb9aa2;stroke-width:.2}"
    ".t{fill:none;stroke:#10131a;stroke-width:.25;stroke-linejoin:round}"
    "text{font:3.2px system-ui,sans-serif;fill:#10131a}"
)


def as_svg(groups: list[Group], *, title: str) -> bytes:
    """Return the drawing of all groups, twelve leads in their usual places."""
    drawing = _Drawing()
    for group in groups:
        if not group.channels:
            continue
        leads = leads_of(group)
        if len(leads) == len(_LEADS):
            drawing.twelve_leads(group, leads)
        else:
            drawing.stacked(group)
    return drawing.svg(title)


def leads_of(group: Group) -> dict[str, Channel]:
    """Return the channels that are leads of an ECG, by the lead's name."""
    found: dict[str, Channel] = {}
    for channel in group.channels:
        match = re.search(r"(?i)\b(aV[RLF]|V[1-6]|III|II|I)\b", channel.name)
        if match:
            found.setdefault(_LEADS[match[1].casefold()], channel)
    return found


class _Drawing:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._height = _MARGIN_MM
        self._width = 2 * _MARGIN_MM

    def twelve_leads(self, group: Group, leads: dict[str, Channel]) -> None:
        """Draw three rows of four leads, a quarter of the time each, and the rhythm below."""
        seconds = min(group.seconds, MAX_SECONDS)
        if seconds < SHORT_SECONDS:
            self._beats(group, leads, seconds)
            return
        quarter = seconds / 4
        top = self._height + 4
        for row in LAYOUT:
            for column, name in enumerate(row):
                part = _between(leads[name], group.rate, column * quarter, (column + 1) * quarter)
                self._trace(part, name, column * quarter, top, group.rate)
            top += _ROW_MM
        whole = _between(leads[RHYTHM], group.rate, 0, seconds)
        self._trace(whole, RHYTHM, 0, top, group.rate)
        self._grow(seconds, top + _ROW_MM, group)

    def _beats(self, group: Group, leads: dict[str, Channel], seconds: float) -> None:
        """Draw the whole of each lead: averaged beats are too short to be shared out."""
        top = self._height + 4
        for row in LAYOUT:
            for column, name in enumerate(row):
                self._trace(leads[name], name, column * (seconds + 0.2), top, group.rate)
            top += _ROW_MM
        self._grow(4 * (seconds + 0.2), top, group)

    def stacked(self, group: Group) -> None:
        """Draw each channel in a row of its own."""
        seconds = min(group.seconds, MAX_SECONDS)
        top = self._height + 4
        for channel in group.channels:
            part = _between(channel, group.rate, 0, seconds)
            self._trace(part, f"{channel.name} {_unit(channel)}".strip(), 0, top, group.rate)
            top += _ROW_MM
        self._grow(seconds, top, group)

    def _grow(self, seconds: float, bottom: float, group: Group) -> None:
        words = f"25 mm/s  10 mm/mV  {group.rate:g} Hz  {group.seconds:.1f} s"
        if group.seconds > MAX_SECONDS:
            words += f"  (the first {MAX_SECONDS:g} s)"
        if group.label:
            words = f"{group.label}  {words}"
        self._text(_MARGIN_MM, bottom, words)
        self._height = bottom + 4
        self._width = max(self._width, 2 * _MARGIN_MM + seconds * SPEED)

    def _text(self, x: float, y: float, words: str) -> None:
        shown = "".join(each for each in words[:200] if each.isprintable())
        self._out.append(f'<text x="{x:.2f}" y="{y:.2f}">{escape(shown)}</text>')

    def _trace(self, part: Channel, label: str, start: float, top: float, rate: float) -> None:
        left = _MARGIN_MM + start * SPEED
        self._text(left + 1, top + 2, label)
        if not part.samples.size:
            return
        times, values = reduced(part.samples, rate)
        middle = top + _ROW_MM / 2
        points = " ".join(
            f"{left + time * SPEED:.2f},{middle - value:.2f}"
            for time, value in zip(times, _heights(part, values), strict=True)
        )
        self._out.append(f'<polyline class="t" points="{points}"/>')

    def svg(self, title: str) -> bytes:
        """Return the whole drawing with its paper."""
        width, height = self._width, self._height + _MARGIN_MM
        lines = []
        for step, kind in ((1, "m"), (5, "c")):
            across = "".join(f"M{x} 0V{height:.1f}" for x in range(0, int(width) + 1, step))
            down = "".join(f"M0 {y}H{width:.1f}" for y in range(0, int(height) + 1, step))
            lines.append(f'<path class="{kind}" d="{across}{down}"/>')
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}mm" height="{height:.1f}mm"'
            f' viewBox="0 0 {width:.1f} {height:.1f}" role="img"><title>{escape(title[:200])}'
            f'</title><style>{_STYLE}</style><rect class="p" width="100%" height="100%"/>'
        )
        return "".join([head, *lines, *self._out, "</svg>"]).encode("utf-8", "replace")


def _between(channel: Channel, rate: float, start: float, end: float) -> Channel:
    part = channel.samples[round(start * rate) : round(end * rate)]
    return Channel(channel.name, channel.unit, part)


def _unit(channel: Channel) -> str:
    return f"[{channel.unit}]" if channel.unit else ""


def _heights(channel: Channel, values: Pixels) -> Pixels:
    """Return how far above the middle each value is drawn, in millimetres."""
    seen = channel.samples[np.isfinite(channel.samples)]
    rest = float(np.median(seen)) if seen.size else 0.0
    factor = _MILLIVOLTS.get(channel.unit.casefold())
    if factor is None:  # pressures, breath, unknown: filling the row
        span = float(np.ptp(seen)) if seen.size else 0.0
        scale = _TRACE_MM / span if span > 0 else 0.0
        rest = float(seen.min() + span / 2) if seen.size else 0.0
    else:
        scale = factor * GAIN
    shown: Pixels = np.clip(np.nan_to_num((values - rest) * scale), -500, 500)
    return shown


def reduced(samples: Pixels, rate: float) -> tuple[Pixels, Pixels]:
    """Return times and values to draw: all, or the extremes of equal parts."""
    if samples.size <= MAX_POINTS:
        return np.arange(samples.size) / rate, samples
    step = -(-samples.size * 2 // MAX_POINTS)
    whole = samples[: samples.size // step * step].reshape(-1, step)
    values = np.stack([whole.min(axis=1), whole.max(axis=1)], axis=1).reshape(-1)
    times = np.repeat(np.arange(whole.shape[0]) * step / rate, 2)
    return times, values
