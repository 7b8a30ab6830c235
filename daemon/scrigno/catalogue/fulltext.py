# SPDX-License-Identifier: Apache-2.0
"""The words of a study, found by any prefix as a user types. SQLite's own full-text index.

On another engine this file is what changes: the four functions keep their meaning.
"""

from collections.abc import Iterable, Sequence

from scrigno.core.attributes import PersonName
from scrigno.db.sqlite import Connection, Value

from . import names

# The number of every study that has a word beginning with each of the words given.
MATCHING = "SELECT rowid AS id FROM study_words WHERE study_words MATCH ?"


def put(connection: Connection, study: int, name: PersonName, texts: Iterable[str]) -> None:
    """Replace the words of a study and the pieces of its patient's name. Writer only."""
    connection.execute(
        "INSERT OR REPLACE INTO study_words (rowid, words) VALUES (?, ?)",
        (study, kept(name, texts)),
    )


def kept(name: PersonName, texts: Iterable[str]) -> str:
    """Return what the index keeps of a study."""
    return " ".join([*names.words(texts), *names.name_pieces(name)])


def refresh(connection: Connection, study: int) -> None:
    """Read the texts of a study again and replace its words. Writer only."""
    row = connection.execute(
        "SELECT patient_name, patient_id, other_patient_ids, accession_number, study_id, "
        "study_description, referring_physician_name FROM study WHERE id = ?",
        (study,),
    ).fetchone()
    if row is not None:
        texts = (text.replace("=", " ") for text in row)
        put(connection, study, PersonName.parse(row[0]), texts)


def drop(connection: Connection, study: int) -> None:
    """Forget the words of a study. Writer only."""
    connection.execute("DELETE FROM study_words WHERE rowid = ?", (study,))


def drop_all(connection: Connection) -> None:
    """Forget the words of all studies. Writer only."""
    connection.execute("INSERT INTO study_words (study_words) VALUES ('delete-all')")


def condition(words: Sequence[str]) -> tuple[str, Value]:
    """Return a query for the numbers of the studies, and its parameter."""
    # Words hold letters and digits only (`names.search_words`), so the quotes cannot end early.
    return MATCHING, " ".join(f'"{word}"*' for word in words)
