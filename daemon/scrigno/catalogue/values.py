# SPDX-License-Identifier: Apache-2.0
"""How dates, times and numbers stand in a column, and back. Pure functions."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

NO_DAY: Final = 0
NO_TIME: Final = -1
DAY_MICROS: Final = 24 * 60 * 60 * 1_000_000
# Numbers that are none sort after those that are.
NO_ORDER: Final = 2**31 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def day(text: str) -> int:
    """Return a DA value as the number YYYYMMDD; NO_DAY when it is no date.

    The form `YYYY.MM.DD` of ACR-NEMA is understood (PS3.5 section 6.2, DA, note).
    """
    digits = text.strip().replace(".", "")[:8]
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return NO_DAY
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return NO_DAY
    return int(digits)


def micros(text: str, *, latest: bool = False) -> int:
    """Return a TM value as microseconds of the day; NO_TIME when it is no time.

    A value with fewer components means its first moment, or its last with `latest`. Colons of
    ACR-NEMA are understood; the leap second 60 counts as 59.999999 (PS3.5 section 6.2, TM).
    """
    plain = text.strip().replace(":", "")
    whole, _, fraction = plain.partition(".")
    if len(whole) not in (2, 4, 6) or not (whole.isascii() and whole.isdigit()):
        return NO_TIME
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        return NO_TIME
    fill = "595959"[len(whole) - 6 :] if latest and len(whole) < 6 else "000000"[len(whole) :]
    whole += fill[: 6 - len(whole)]
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4]), int(whole[4:])
    if hours > 23 or minutes > 59 or seconds > 60:
        return NO_TIME
    filler = "9" if latest else "0"
    part = int((fraction + filler * 6)[:6])
    if seconds == 60:
        seconds, part = 59, 999_999
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + part


def longest_time(value: int) -> str:
    """Return microseconds of the day as `HHMMSS.FFFFFF`."""
    seconds, part = divmod(value, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}{minute:02}{second:02}.{part:06}"


def shortest_time(value: int) -> str:
    """Return the shortest TM text that means this moment: it sorts before all longer ones."""
    text = longest_time(value).rstrip("0").rstrip(".")
    text += "0" * (len(text) % 2) if "." not in text else ""
    while len(text) > 2 and "." not in text and text.endswith("00"):
        text = text[:-2]
    return text or "00"


def order(text: str) -> int:
    """Return an IS value for sorting; NO_ORDER when it is no number."""
    try:
        number = int(text)
    except ValueError:
        return NO_ORDER
    return number if abs(number) < NO_ORDER else NO_ORDER


def stamp(at: datetime) -> int:
    """Return aware time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Return microseconds since 1970 as aware UTC time."""
    return _EPOCH + timedelta(microseconds=value)


def day_start(text: str) -> int:
    """Return the first microsecond of a day in UTC as it stands in a stamp, 0 when it is none."""
    number = day(text)
    if number == NO_DAY:
        return 0
    return stamp(datetime(number // 10_000, number // 100 % 100, number % 100, tzinfo=UTC))


def day_end(text: str) -> int:
    """Return the last microsecond of a day in UTC as it stands in a stamp, -1 when it is none."""
    return -1 if day(text) == NO_DAY else day_start(text) + DAY_MICROS - 1


def joined(values: Iterable[str]) -> str:
    """Return a set of values as one text, sorted, empty ones left out."""
    return "\\".join(sorted(value for value in values if value))


def split(text: str) -> tuple[str, ...]:
    r"""Return the values of a text that holds several, separated by `\`."""
    return tuple(text.split("\\")) if text else ()
