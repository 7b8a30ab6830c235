# SPDX-License-Identifier: Apache-2.0
"""What an alert says, in each language: summary, explanation and next step by code.

One file per language stands in `texts/`; English is the source and what is missing elsewhere is
said in English. A text names its values in braces; the names tell the unit (see `codes`), so a
number is written as the language writes it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = "en"
TEXTS_DIR: Final = Path(__file__).parent / "texts"
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
Value = str | int | float

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertText:
    """One alert in words."""

    summary: str
    explanation: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The texts of one language: alerts by code, and the few other words by name."""

    alerts: Mapping[str, AlertText]
    words: Mapping[str, str]


def _read(path: Path) -> Catalogue:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Catalogue(
        alerts={code: AlertText(**text) for code, text in content["alerts"].items()},
        words=content["words"],
    )


# Read once, when this module is imported: later no file is touched.
CATALOGUES: Final = {path.stem: _read(path) for path in sorted(TEXTS_DIR.glob("*.json"))}
LANGUAGES: Final = frozenset(CATALOGUES)


def alert_text(
    code: str, subject: str, values: Mapping[str, Value], language: str = SOURCE
) -> AlertText:
    """Return the alert in words; English when the language or the text is not there.

    A code that is not known any more (an old entry of the history) stands for itself.
    """
    text = _catalogue(language).alerts.get(code) or CATALOGUES[SOURCE].alerts.get(code)
    if text is None:
        return AlertText(summary=f"{code} {subject}".strip(), explanation="", next_step="")
    given = {**values, "subject": subject}
    return AlertText(
        summary=_filled(text.summary, given, language),
        explanation=_filled(text.explanation, given, language),
        next_step=_filled(text.next_step, given, language),
    )


def word(name: str, language: str = SOURCE, /, **values: Value) -> str:
    """Return one of the other words, with its values filled in as they are."""
    text = _catalogue(language).words.get(name) or CATALOGUES[SOURCE].words[name]
    return PLACEHOLDER.sub(lambda found: str(values.get(found[1], "")), text)


def written(name: str, value: Value | None, language: str = SOURCE) -> str:
    """Return a value as the language writes it; the end of its name tells the unit."""
    if value is None or value == "":
        return word("no-reason" if name == "reason" else "unknown", language)
    if isinstance(value, str):
        return _one_line(value)
    match name.rpartition("_")[2], name:
        case "percent", _:
            return word("percent", language, n=_number(value, language))
        case "bytes", _:
            return _size(value, language)
        case "s", named if named.endswith("_per_s"):
            return word("per-second", language, n=_size(value, language))
        case "s", _:
            return _duration(value, language)
        case "c", _:
            return f"{_number(value, language)} °C"
        case _:
            return _number(value, language, decimals=0 if isinstance(value, int) else 1)


def _catalogue(language: str) -> Catalogue:
    return CATALOGUES.get(language, CATALOGUES[SOURCE])


def _filled(text: str, values: Mapping[str, Value], language: str) -> str:
    return PLACEHOLDER.sub(lambda found: written(found[1], values.get(found[1]), language), text)


def _one_line(text: str) -> str:
    """Return a text from elsewhere so that it fits into a sentence and a line."""
    return " ".join(text.split()).rstrip(".。 ")


def _number(value: float, language: str, *, decimals: int = 0) -> str:
    written_in_english = f"{value:,.{decimals}f}"
    marks = {",": word("group", language), ".": word("decimal", language)}
    return "".join(marks.get(character, character) for character in written_in_english)


def _size(value: float, language: str) -> str:
    *units, largest = word("bytes", language).split()
    for unit in units:
        if abs(value) < 1000:
            decimals = 0 if value >= 10 or unit == units[0] else 1
            return f"{_number(value, language, decimals=decimals)} {unit}"
        value /= 1000
    return f"{_number(value, language, decimals=1)} {largest}"


def _duration(seconds: float, language: str) -> str:
    size = abs(seconds)
    unit, one = next(
        ((unit, one) for unit, one, below in _DURATIONS if size < below), ("days", _DAY)
    )
    return word(unit, language, n=_number(seconds / one, language))


# A unit is used up to here: "80 s", "75 min", "36 h", then days.
_DURATIONS: Final = (
    ("seconds", 1.0, 1.5 * _MINUTE),
    ("minutes", _MINUTE, 1.5 * _HOUR),
    ("hours", _HOUR, 2 * _DAY),
)
