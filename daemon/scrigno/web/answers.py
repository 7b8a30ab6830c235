# SPDX-License-Identifier: Apache-2.0
"""Small values as every answer writes them."""

from datetime import datetime

from scrigno.core.attributes import PersonName

from .shapes import Answer


class PersonNameAnswer(Answer):
    """A person's name by its three groups (PS3.5 section 6.2.1.2)."""

    alphabetic: str
    ideographic: str
    phonetic: str


def moment(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 with its zone, null for none."""
    return None if moment is None else moment.isoformat(timespec="seconds")


def at(moment: datetime) -> str:
    """Return a time that is there as ISO 8601 with its zone."""
    return moment.isoformat(timespec="seconds")


def person(name: PersonName) -> PersonNameAnswer:
    """Return a person's name by its three groups."""
    return PersonNameAnswer(
        alphabetic=name.alphabetic, ideographic=name.ideographic, phonetic=name.phonetic
    )
