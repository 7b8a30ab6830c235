# SPDX-License-Identifier: Apache-2.0
"""How many objects stand on how few volumes."""

from scrigno.db.sqlite import Connection

from .copies import SHELVES
from .gains import HELD


def only_on(connection: Connection, volume: str) -> int:
    """Count the objects that this volume holds and no other; reads every copy of the volume."""
    alone = 0
    for shelf in SHELVES:
        row = connection.execute(
            f"SELECT count(*) FROM {shelf.copies} AS mine "  # noqa: S608 - our names
            "WHERE mine.volume = ? AND mine.state = ? AND NOT EXISTS "
            f"(SELECT 1 FROM {shelf.copies} AS other WHERE other.object = mine.object "
            "AND other.volume <> mine.volume AND other.state = ?)",
            (volume, HELD, HELD),
        ).fetchone()
        alone += int(row[0]) if row is not None else 0
    return alone
