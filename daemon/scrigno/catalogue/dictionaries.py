# SPDX-License-Identifier: Apache-2.0
"""Small tables of values that many rows name: modalities, institutions, origins. Writer only."""

from typing import Final

from scrigno.db.sqlite import Connection

from . import names
from .records import Origin

# Bits 0 to 61 of a signed 64-bit column; every further code shares the last one, and a search for
# such a code looks at the text too.
OTHER_BIT: Final = 62


def modality_bit(connection: Connection, code: str) -> int | None:
    """Return the bit of a modality code, or None when nothing has it."""
    row = connection.execute("SELECT bit FROM modality WHERE code = ?", (code,)).fetchone()
    return None if row is None else min(int(row[0]), OTHER_BIT)


class Dictionaries:
    """Numbers of values, made at their first use and remembered until `clear`."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._bits: dict[str, int] = {}
        self._institutions: dict[str, int] = {}
        self._origins: dict[Origin, int] = {}

    def clear(self) -> None:
        """Remember nothing: rows may have been rolled back."""
        self._bits.clear()
        self._institutions.clear()
        self._origins.clear()

    def modality_bits(self, connection: Connection, codes: set[str]) -> int:
        """Return the bits of a study with these modalities."""
        bits = 0
        for code in codes:
            if code:
                bits |= 1 << self._bit(connection, code)
        return bits

    def institution(self, connection: Connection, name: str) -> int:
        """Return the number of an institution."""
        number = self._institutions.get(name)
        if number is None:
            row = connection.execute(
                "SELECT id FROM institution WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                number = connection.execute(
                    "INSERT INTO institution (name, name_key) VALUES (?, ?)",
                    (name, names.key(name)),
                ).lastrowid
            else:
                number = int(row[0])
            if len(self._institutions) > 1000:
                self._institutions.clear()
            self._institutions[name] = number
        return number

    def origin(self, connection: Connection, origin: Origin) -> int:
        """Return the number of an origin."""
        number = self._origins.get(origin)
        if number is None:
            texts = (
                origin.door,
                origin.calling_ae,
                origin.called_ae,
                origin.address,
                origin.user,
            )
            row = connection.execute(
                "SELECT id FROM origin WHERE door = ? AND calling_ae = ? AND called_ae = ? "
                "AND address = ? AND account = ?",
                texts,
            ).fetchone()
            if row is None:
                number = connection.execute(
                    "INSERT INTO origin (door, calling_ae, called_ae, address, account) "
                    "VALUES (?, ?, ?, ?, ?)",
                    texts,
                ).lastrowid
            else:
                number = int(row[0])
            if len(self._origins) > 1000:
                self._origins.clear()
            self._origins[origin] = number
        return number

    def _bit(self, connection: Connection, code: str) -> int:
        bit = self._bits.get(code)
        if bit is None:
            row = connection.execute("SELECT bit FROM modality WHERE code = ?", (code,)).fetchone()
            if row is None:
                last = connection.execute("SELECT coalesce(max(bit), -1) FROM modality").fetchone()
                assert last is not None  # noqa: S101 - an aggregate always answers
                bit = int(last[0]) + 1
                connection.execute("INSERT INTO modality (bit, code) VALUES (?, ?)", (bit, code))
            else:
                bit = int(row[0])
            self._bits[code] = bit
        return min(bit, OTHER_BIT)
