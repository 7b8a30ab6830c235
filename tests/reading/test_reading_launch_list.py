# SPDX-License-Identifier: Apache-2.0
"""Launch addresses against a real index: what they ask for is what the list shows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path

import pytest

from made_instances import make_instance
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import StudyListQuery
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.reading.launch import parse_list

TODAY = date(2026, 3, 31)
STUDIES = {
    "1.2.1": {
        "patient_id": "A1", "patient_name": "Rossi^Anna", "modality": "CT", "series_number": "9",
        "study_date": "20260331", "study_time": "0810", "patient_birth_date": "19800229",
    },
    "1.2.2": {
        "patient_id": "A2", "patient_name": "Yamada^Tarou=山田^太郎", "modality": "MR",
        "series_number": "10", "study_date": "20260330", "patient_birth_date": "19750101",
    },
    "1.2.3": {
        "patient_id": "B7", "patient_name": "Verdi^Ugo", "modality": "US", "series_number": "2",
        "study_date": "20160831", "accession_number": "ACC-3", "body_part_examined": "HEAD",
    },
    "1.2.4": {
        "patient_id": "B8", "patient_name": "Neri^Ida", "modality": "CT", "series_number": "1",
        "study_date": "20131125", "series_description": "Axial 5 mm", "patient_comments": "fasting",
    },
}  # fmt: skip
Ask = Callable[[str], Awaitable[set[str]]]


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    async with Catalogue(
        tmp_path / "index.db", counters=Counters(), clock=SystemClock()
    ) as catalogue:
        for uid, fields in STUDIES.items():
            await catalogue.add(make_instance(uid, **fields))

        async def asked(query: str) -> set[str]:
            filters = parse_list(query, today=TODAY).filters
            page = await catalogue.study_page(StudyListQuery(filters=filters))
            return {row.study_instance_uid[-1] for row in page.rows}

        yield asked


@pytest.mark.spec("IN-2")
async def test_addresses_find_the_studies_they_mean(ask: Ask) -> None:
    for query, wanted in {
        "": "1234",
        "patientid=a1": "1",
        "patientid=A1&patientid=B7": "13",
        "patientid=A1&patientid=**B": "134",
        "patientid=B7&patientid=>>B7": "34",
        "patientid=!=A1&patientid=!=A2": "34",
        "modality=ct&modality=US": "134",
        "modality=CT&patientid=**b": "4",
        "modality=!=CT": "23",
        "patientname=**%E5%B1%B1": "2",
        "patientname=Rossi%5EAnna": "1",
        "patientname=ROSSI^ANNA": "1",
        "studydate=today": "1",
        "studydate=yesterday": "2",
        "studydate=pastweek": "12",
        "studydate=pastmonth": "12",
        "studydate==~2013/11/25~2016/08/31": "34",
        "studydate=>>2016/08/31": "12",
        "studydate=>=2016/08/31": "123",
        "studydate=<<2016/08/31": "4",
        "studydate=<=2016/08/31": "34",
        "studydate=!=2016/08/31": "124",
        "studydate=**2026/03": "12",
        "studydate=%3E%3D2016/08/31": "123",
        "studytime=08:10": "1",
        "patientbirthdate=1980/02/29": "1",
        "patientbirthdate==~1970/01/01~1979/12/31": "2",
        "seriesnumber=>>2": "12",
        "seriesnumber=<=9": "134",
        "seriesdescription=**axial": "4",
        "bodypartexamined=HEAD": "3",
        "accessionnumber===ACC-3": "3",
        "patientcomments=**fast": "4",
        "studyinstanceuid=1.2.2": "2",
        "sopinstanceuid=1.2.3.1.1": "3",
        "studydate=>=2026/01/01&patientname=**o&modality=CT": "1",
    }.items():
        assert await ask(query) == set(wanted), query
