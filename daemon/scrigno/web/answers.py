# SPDX-License-Identifier: Apache-2.0
"""Small values as every answer writes them."""

from datetime import datetime
from typing import Any

from scrigno.core.attributes import PersonName


def moment(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 with its zone, null for none."""
    return None if moment is None else moment.isoformat(timespec="seconds")


def person(name: PersonName) -> dict[str, Any]:
    """Return a person's name by its three groups (PS3.5 section 6.2.1.2)."""
    return {
        "alphabetic": name.alphabetic,
        "ideographic": name.ideographic,
        "phonetic": name.phonetic,
    }
