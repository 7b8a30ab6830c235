# SPDX-License-Identifier: Apache-2.0
"""Which stored objects a C-MOVE or C-GET identifier means (PS3.4 sections C.4.2.2, C.4.3.2)."""

from collections.abc import Collection
from dataclasses import dataclass

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single, UidList
from scrigno.catalogue.records import FindRow, StoredInstance

from .identifier import Identifier
from .matching import (
    UNIQUE_KEYS,
    IdentifierMismatch,
    check_upper_keys,
    level_of,
    levels_above,
    unique_keyword,
)
from .negotiation import Model, QueryOptions


@dataclass(frozen=True, slots=True)
class Selection:
    """The unique keys of a retrieval, from the root of the model down to `level`."""

    level: Level
    values: dict[Level, tuple[str, ...]]

    def of(self, level: Level) -> tuple[str, ...]:
        """Return the values asked for at a level; none means any."""
        return self.values.get(level, ())


def plan_selection(identifier: Identifier, model: Model, options: QueryOptions) -> Selection:
    """Return what is to be retrieved; raises IdentifierMismatch."""
    level = level_of(identifier, model)
    check_upper_keys(identifier, model, level, relational=options.relational)
    values = {
        each: identifier.values(UNIQUE_KEYS[each]) for each in (*levels_above(model, level), level)
    }
    if not values[level]:
        raise IdentifierMismatch(
            "The unique key of the level to retrieve is missing.", (UNIQUE_KEYS[level],)
        )
    return Selection(level, values)


async def select(catalogue: Catalogue, selection: Selection) -> list[StoredInstance]:
    """Return the stored objects, study by study, in the order of series and instance numbers."""
    instances: list[StoredInstance] = []
    sop_uids = selection.of(Level.IMAGE) or None
    for study_uid, series_uids in (await _places(catalogue, selection)).items():
        found = await catalogue.instances(study_uid, None, sop_uids)
        instances += [
            each for each in found if series_uids is None or each.series_instance_uid in series_uids
        ]
    return instances


async def _places(catalogue: Catalogue, selection: Selection) -> dict[str, Collection[str] | None]:
    """Return the studies to look into, each with its series (None: all of them)."""
    patients, studies = selection.of(Level.PATIENT), selection.of(Level.STUDY)
    series, images = selection.of(Level.SERIES), selection.of(Level.IMAGE)
    if patients:
        rows = await _find(catalogue, Level.STUDY, {Level.PATIENT: patients, Level.STUDY: studies})
        studies = tuple(str(row.values["StudyInstanceUID"]) for row in rows)
    elif not studies and series:
        rows = await _find(catalogue, Level.SERIES, {Level.SERIES: series})
        studies = tuple(dict.fromkeys(str(row.values["StudyInstanceUID"]) for row in rows))
    elif not studies:
        stored = [await catalogue.instance(each) for each in images]
        studies = tuple(dict.fromkeys(each.study_instance_uid for each in stored if each))
    return dict.fromkeys(studies, series or None)


async def _find(
    catalogue: Catalogue, level: Level, wanted: dict[Level, tuple[str, ...]]
) -> list[FindRow]:
    keys = [FindKey(keyword=unique_keyword(each)) for each in (Level.PATIENT, Level.STUDY)]
    keys += [
        FindKey(
            keyword=unique_keyword(each),
            matching=Single(values[0]) if len(values) == 1 else UidList(values),
        )
        for each, values in wanted.items()
        if values
    ]
    unique = {key.keyword: key for key in keys}
    query = FindQuery(level=level, keys=tuple(unique.values()), relational=True)
    return [row async for row in catalogue.find(query)]
