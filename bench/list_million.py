# SPDX-License-Identifier: Apache-2.0
"""List pages and queries on a generated index: `python bench/list_million.py [PATH]`.

PATH is an index that `bench/million.py` filled (made when it is missing). Every figure is the
median and the worst of five runs through `Catalogue`, so threads and conversions count too. The
budget is 200 ms each.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    from bench import million
except ImportError:  # run as a file
    import million  # type: ignore[no-redef]

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.columns import SORTS
from scrigno.catalogue.query import (
    DateRange,
    FindKey,
    FindQuery,
    Level,
    Matching,
    Single,
    Wildcard,
)
from scrigno.catalogue.records import FilterOperator, ListFilter, StudyListQuery
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.sight import Sight

BUDGET_MS = 200
RUNS = 5
PAGE = 50


@dataclass(frozen=True)
class Figure:
    """One measured question."""

    group: str
    what: str
    found: int
    median_ms: float
    worst_ms: float
    cpu_ms: float  # of the whole process, median: what a quiet machine would take at most


async def _timed(group: str, what: str, ask: Callable[[], Awaitable[int]]) -> Figure:
    times, work, found = [], [], 0
    for _ in range(RUNS):
        started, worked = time.perf_counter(), time.process_time()
        found = await ask()
        times.append((time.perf_counter() - started) * 1000)
        work.append((time.process_time() - worked) * 1000)
    return Figure(group, what, found, statistics.median(times), max(times), statistics.median(work))


def _is(field: str, *values: str, operator: FilterOperator = FilterOperator.EQUAL) -> ListFilter:
    return ListFilter(field=field, operator=operator, values=values)


FILTERS: dict[str, tuple[ListFilter, ...]] = {
    "modality CT": (_is("modality", "CT"),),
    "modality XA (rare)": (_is("modality", "XA"),),
    "modality CT or MR": (_is("modality", "CT", "MR"),),
    "date 2018 to 2023": (
        _is("study_date", "20180101", "20231231", operator=FilterOperator.RANGE),
    ),
    "one day": (_is("study_date", "20200203"),),
    "institution": (_is("institution_name", "さくら総合病院"),),
    "CT, 2018-2023, institution": (
        _is("modality", "CT"),
        _is("study_date", "20180101", "20231231", operator=FilterOperator.RANGE),
        _is("institution_name", "さくら総合病院"),
    ),
    "sex F": (_is("patient_sex", "F"),),
    "sex F, modality MR": (_is("patient_sex", "F"), _is("modality", "MR")),
    "name contains TANA": (_is("patient_name", "TANA", operator=FilterOperator.CONTAINS),),
    "description contains CT": (_is("study_description", "CT", operator=FilterOperator.CONTAINS),),
    "body part of a series": (_is("body_part_examined", "KNEE"),),
    "series description, number": (
        _is("series_description", "CT CHEST"),
        _is("series_number", "2"),
    ),
}
SEARCHES = ("t", "s", "ta", "tan", "tanaka", "tanaka t", "山", "山田", "山田 太", "やま",
            "金", "김ㅎ", "胸部", "ct", "a0005", "0", "rossi giu", "héle", "zzzz")  # fmt: skip


async def list_figures(catalogue: Catalogue) -> list[Figure]:
    """Measure pages of the study list."""
    figures = []

    async def page(group: str, what: str, query: StudyListQuery) -> None:
        async def ask() -> int:
            return (await catalogue.study_page(query)).total

        figures.append(await _timed(group, what, ask))

    total = (await catalogue.totals()).studies
    for sort in SORTS:
        for descending in (False, True):
            for where, offset in (("first", 0), ("middle", total // 2), ("95 %", total * 19 // 20)):
                query = StudyListQuery(sort=sort, descending=descending, offset=offset, limit=PAGE)
                await page(
                    "every column", f"{sort} {'desc' if descending else 'asc'} {where}", query
                )
    for name, filters in FILTERS.items():
        for sort in ("study_date", "patient_name", "number_of_instances"):
            matches = (await catalogue.study_page(StudyListQuery(filters=filters, limit=1))).total
            for where, offset in (("first", 0), ("middle", max(0, matches // 2))):
                query = StudyListQuery(filters=filters, sort=sort, offset=offset, limit=PAGE)
                await page("filter", f"{name} by {sort} {where}", query)
    for search in SEARCHES:
        for sort in ("study_date", "patient_name"):
            matches = (await catalogue.study_page(StudyListQuery(search=search, limit=1))).total
            for where, offset in (("first", 0), ("middle", max(0, matches // 2))):
                query = StudyListQuery(search=search, sort=sort, offset=offset, limit=PAGE)
                await page("search", f"{search!r} by {sort} {where}", query)
    for name in ("modality CT", "date 2018 to 2023", "sex F"):
        for search in ("t", "tanaka", "ct"):
            query = StudyListQuery(search=search, filters=FILTERS[name], sort="patient_name")
            await page("search and filter", f"{search!r} {name}", query)
    return figures


async def find_figures(catalogue: Catalogue) -> list[Figure]:
    """Measure C-FIND and QIDO-RS queries: all matches, or the first hundred."""
    figures = []

    async def find(what: str, keys: dict[str, Matching], level: Level = Level.STUDY, *,
                   fuzzy: bool = False, limit: int | None = 100) -> None:  # fmt: skip
        asked = tuple(FindKey(keyword=keyword, matching=how) for keyword, how in keys.items())
        query = FindQuery(level=level, keys=asked, fuzzy_names=fuzzy, limit=limit)

        async def ask() -> int:
            return len([row async for row in catalogue.find(query)])

        figures.append(await _timed("C-FIND", what, ask))

    await find("name TANAKA*", {"PatientName": Wildcard("TANAKA*")})
    await find("name 田中*", {"PatientName": Wildcard("田中*")})
    await find("name *NAKA*", {"PatientName": Wildcard("*NAKA*")})
    await find("name *XYZXYZ* (none)", {"PatientName": Wildcard("*XYZXYZ*")})
    await find("name ??NAKA^T*", {"PatientName": Wildcard("??NAKA^T*")})
    await find("name TANAKA^TARO", {"PatientName": Single("TANAKA^TARO")})
    await find("name fuzzy 'taro tana'", {"PatientName": Single("taro tana")}, fuzzy=True)
    await find("name fuzzy 't'", {"PatientName": Single("t")}, fuzzy=True)
    await find("id 00005000", {"PatientID": Single("00005000")}, limit=None)
    await find("id 00005*", {"PatientID": Wildcard("00005*")})
    await find("id *5000", {"PatientID": Wildcard("*5000")})
    await find("accession", {"AccessionNumber": Single("A000500000")}, limit=None)
    await find("accession *500000", {"AccessionNumber": Wildcard("*500000")}, limit=None)
    await find("one day, all", {"StudyDate": Single("20200203")}, limit=None)
    await find("a year", {"StudyDate": DateRange("20200101", "20201231")})
    await find("a year, CT, name T*", {
        "StudyDate": DateRange("20200101", "20201231"),
        "ModalitiesInStudy": Single("CT"),
        "PatientName": Wildcard("T*"),
    })  # fmt: skip
    await find("ModalitiesInStudy XA", {"ModalitiesInStudy": Single("XA")})
    await find("description *CT*", {"StudyDescription": Wildcard("*CT*")})
    await find("everything", {})
    await find("patient level TANAKA*", {"PatientName": Wildcard("TANAKA*")}, Level.PATIENT)
    await find("patient level id", {"PatientID": Single("00005000")}, Level.PATIENT, limit=None)
    await find("series of TANAKA^TARO", {"PatientName": Single("TANAKA^TARO")}, Level.SERIES)
    return figures


SIGHTS: dict[str, Sight] = {
    "modality CT": Sight(modalities=("CT",)),
    "modality XA (rare)": Sight(modalities=("XA",)),
    "institution": Sight(institutions=("さくら総合病院",)),
    "body part KNEE": Sight(body_parts=("KNEE",)),
    "body parts KNEE, CHEST": Sight(body_parts=("KNEE", "CHEST")),
    "source": Sight(sources=("CT1",)),
    "CT, CHEST, institution": Sight(
        modalities=("CT",), body_parts=("CHEST",), institutions=("さくら総合病院",)
    ),
    "nothing": Sight(study_uids=frozenset()),
}


async def sight_figures(catalogue: Catalogue) -> list[Figure]:
    """Measure pages for those who see only some studies."""
    figures = []
    for name, sight in SIGHTS.items():
        for search in ("", "tan"):
            for sort in ("study_date", "patient_name"):
                query = StudyListQuery(search=search, sort=sort, limit=PAGE)

                async def ask(query: StudyListQuery = query, sight: Sight = sight) -> int:
                    return (await catalogue.study_page(query, within=sight)).total

                what = f"{name} by {sort}{f' search {search!r}' if search else ''}"
                figures.append(await _timed("sight", what, ask))
    return figures


async def measure(path: Path) -> list[Figure]:
    """Measure everything on the index at `path`."""
    async with Catalogue(path, counters=Counters(), clock=SystemClock()) as catalogue:
        return [
            *await list_figures(catalogue),
            *await find_figures(catalogue),
            *await sight_figures(catalogue),
        ]


def table(figures: list[Figure]) -> str:
    """Return the figures as text: the slowest of each group first."""
    lines = [f"{'group':18} {'what':58} {'found':>9} {'median':>8} {'worst':>8} {'cpu':>8}  ms"]
    for group in dict.fromkeys(figure.group for figure in figures):
        own = sorted((f for f in figures if f.group == group), key=lambda f: -f.median_ms)
        lines += [
            f"{f.group:18} {f.what:58} {f.found:9} "
            f"{f.median_ms:8.1f} {f.worst_ms:8.1f} {f.cpu_ms:8.1f}"
            + ("  OVER" if f.median_ms > BUDGET_MS else "")
            for f in own
        ]
        slowest = max(own, key=lambda f: f.cpu_ms)
        lines.append(
            f"{group}: {len(own)} questions, slowest median {own[0].median_ms:.1f} ms, "
            f"most work {slowest.cpu_ms:.1f} ms ({slowest.what})"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path("var/million.db"))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if not chosen.path.exists():
        chosen.path.parent.mkdir(parents=True, exist_ok=True)
        million.fill(chosen.path, 1_000_000)
    figures = asyncio.run(measure(chosen.path))
    print(json.dumps([asdict(f) for f in figures]) if chosen.json else table(figures))


if __name__ == "__main__":
    main()
