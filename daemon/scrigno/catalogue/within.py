# SPDX-License-Identifier: Apache-2.0
"""Who sees what, as conditions of studies: a `Sight` becomes tests of rows and arms that find them.

Everything is no condition at all, so the lists of who sees everything are asked as before.
Modality and institution are carried by every list index and cost nothing. A body part is found
by the index of series, a source by `study_origin`, named studies by their UIDs. What is compared
with nothing that the archive knows hides: a role never opens more than it says.
"""

from collections.abc import Iterable
from typing import Final

from scrigno.core.sight import Sight
from scrigno.db.sqlite import Connection

from . import conditions, dialect, names
from .conditions import Condition
from .dictionaries import OTHER_BIT
from .sql import Sql, both

_PIECE: Final = 500


def conditions_of(connection: Connection, sight: Sight) -> list[Condition]:
    """Return the conditions that a study must satisfy to be seen; none for everything."""
    if sight.everything:
        return []
    found: list[Condition] = []
    if sight.modalities:
        found.append(_modalities(connection, sight.modalities))
    if sight.institutions:
        found.append(_institutions(connection, sight.institutions))
    if sight.body_parts:
        found.append(_body_parts(sight.body_parts))
    if sight.sources:
        found.append(_sources(connection, sight.sources))
    if sight.study_uids is not None:
        found.append(_named(sorted(sight.study_uids)))
    return found


def test_of(connection: Connection, sight: Sight) -> Sql:
    """Return the test of one row of `study`, in a query that names no other table."""
    return both(each.test for each in conditions_of(connection, sight))


def seen(connection: Connection, study_uids: Iterable[str], sight: Sight) -> frozenset[str]:
    """Return those of these studies that exist and are seen."""
    wanted = list(dict.fromkeys(study_uids))
    test = test_of(connection, sight)
    found: set[str] = set()
    for place in range(0, len(wanted), _PIECE):
        inside = dialect.texts_in("study_instance_uid", wanted[place : place + _PIECE])
        where = both([inside, test])
        found.update(
            row[0]
            for row in connection.execute(
                f"SELECT study_instance_uid FROM study WHERE {where.text}",  # noqa: S608 - our texts
                where.parameters,
            )
        )
    return frozenset(found)


def sees(connection: Connection, study_uid: str, sight: Sight) -> bool:
    """Tell whether a study exists and is seen."""
    return sight.everything or bool(seen(connection, (study_uid,), sight))


def _modalities(connection: Connection, wanted: tuple[str, ...]) -> Condition:
    codes = frozenset(wanted)
    mask, others = 0, []
    for bit, code in connection.execute("SELECT bit, code FROM modality"):
        if code in codes:
            mask |= 1 << bit if bit < OTHER_BIT else 0
            others += [code] if bit >= OTHER_BIT else []
    if not others:
        common = Sql("modality_bits & ? <> 0", (mask,))
        return Condition(test=common, carried=True) if mask else conditions.NOBODY
    return conditions.modalities(connection, lambda code: code in codes)


def _institutions(connection: Connection, wanted: tuple[str, ...]) -> Condition:
    """Names are compared folded, as the list does; all spellings of one are the same."""
    inside = dialect.texts_in("name_key", [names.key(each) for each in wanted if each.strip()])
    numbers = [
        row[0]
        for row in connection.execute(
            f"SELECT id FROM institution WHERE {inside.text}",  # noqa: S608 - our texts
            inside.parameters,
        )
    ]
    if not numbers:
        return conditions.NOBODY
    return Condition(test=dialect.numbers_in("institution_id", numbers), carried=True)


def _body_parts(wanted: tuple[str, ...]) -> Condition:
    return _by_select(
        dialect.texts_in("body_part_examined", [each for each in wanted if each]),
        "SELECT study AS id FROM series WHERE",
        "id IN (SELECT study FROM series WHERE",
    )


def _sources(connection: Connection, wanted: tuple[str, ...]) -> Condition:
    inside = dialect.texts_in("calling_ae", [each for each in wanted if each])
    origins = [
        row[0]
        for row in connection.execute(
            f"SELECT id FROM origin WHERE {inside.text}",  # noqa: S608 - our texts
            inside.parameters,
        )
    ]
    if not origins:
        return conditions.NOBODY
    return _by_select(
        dialect.numbers_in("origin", origins),
        "SELECT study AS id FROM study_origin WHERE",
        "id IN (SELECT study FROM study_origin WHERE",
    )


def _by_select(inside: Sql, arm: str, test: str) -> Condition:
    """A study may be named more than once: whoever reads an arm takes numbers as a set."""
    return Condition(
        test=Sql(f"{test} {inside.text})", inside.parameters),
        arms=(Sql(f"{arm} {inside.text}", inside.parameters),),
        arms_of_study=False,
    )


def _named(uids: list[str]) -> Condition:
    inside = dialect.texts_in("study_instance_uid", uids)
    arm = Sql(f"SELECT id FROM study WHERE {inside.text}", inside.parameters)  # noqa: S608 - our texts
    return Condition(test=inside, arms=(arm,))
