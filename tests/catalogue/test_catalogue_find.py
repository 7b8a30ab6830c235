# SPDX-License-Identifier: Apache-2.0
"""C-FIND and QIDO-RS matching (PS3.4 C.2.2.2) on a small archive with awkward texts."""

import asyncio

import pytest

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.find import keywords
from scrigno.catalogue.query import (
    DateRange,
    FindKey,
    FindQuery,
    Level,
    Matching,
    Single,
    TimeRange,
    UidList,
    Universal,
    Wildcard,
)
from scrigno.core.attributes import PersonName

SR = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
async def archive(catalogue: Catalogue, make) -> Catalogue:
    people = {
        "yamada": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "tanaka": "ＴＡＮＡＫＡ^Ｋｅｎ=田中^健=ﾀﾅｶ^ｹﾝ",
        "muller": "Müller^Jürgen",
        "strasse": "Straße^Ute",
        "percent": "100%^A_B[C]",
        "kim": "Kim^Huijung=金^喜中=김^희중",
        "single": "Rossi",
    }
    for number, (ident, name) in enumerate(people.items(), start=1):
        await catalogue.add(
            make(
                f"1.{number}",
                patient_id=ident,
                patient_name=name,
                study_date=f"2024010{number}",
                study_time=f"{8 + number:02}3000",
                accession_number=f"Acc{number}",
                study_description=f"Descr {ident}",
                modality="CT" if number % 2 else "MR",
                study_id=f"{number}",
                series_number=f"{number}",
                series_description="AP [1]" if number == 1 else "lateral",
                referring_physician_name="Dr^House=ハウス",
                performing_physician_name="Curie^Marie",
                instance_number=f"{number}",
                minutes=number,
            )
        )
    await catalogue.add(
        make("1.1", series="1.1.9", sop="1.1.9.1", patient_id="yamada", modality="SR", sop_class=SR)
    )
    await catalogue.add(make("1.1", sop="1.1.1.2", patient_id="yamada", instance_number="2"))
    await catalogue.add(make("1.99", study_date="junk", modality="", patient_id="nodate"))
    return catalogue


async def find(
    catalogue: Catalogue, level: Level = Level.STUDY, *, fuzzy: bool = False,
    relational: bool = False, combined: bool = False, **keys: Matching | str,
) -> list[str]:  # fmt: skip
    """Return the last part of the unique key of every answer, sorted."""
    query = FindQuery(
        level=level,
        keys=tuple(
            FindKey(keyword=k, matching=Single(m) if isinstance(m, str) else m)
            for k, m in keys.items()
        ),
        fuzzy_names=fuzzy,
        relational=relational,
        combined_datetime=combined,
    )
    unique = {
        Level.PATIENT: "PatientID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.IMAGE: "SOPInstanceUID",
    }[level]
    found = [str(row.values[unique]) async for row in catalogue.find(query)]
    assert await catalogue.find_count(query) == len(found)
    assert len(set(found)) == len(found)
    return sorted(found)


NAME_PATTERNS = [
    ("YAMADA*", "1.1"),
    ("yamada^taro*", "1.1"),
    ("山田*", "1.1"),
    ("山田^太郎", "1.1"),
    ("やまだ*", "1.1"),
    ("*ama*", "1.1"),
    ("?amada*", "1.1"),
    ("tanaka^ken", "1.2"),
    ("ﾀﾅｶ*", "1.2"),
    ("タナカ^ケン", "1.2"),
    ("MULLER^J*", "1.3"),
    ("müller^*", "1.3"),
    ("STRASSE*", "1.4"),
    ("strasse^ute", "1.4"),
    ("100%*", "1.5"),
    ("*A_B[C]", "1.5"),
    ("*A?B[C]", "1.5"),
    ("*[A-Z]*", ""),
    ("*_*", "1.5"),
    ("김*", "1.6"),
    ("金*", "1.6"),
    ("kim^*=金^*", "1.6"),
    ("kim^*=李^*", ""),
    ("rossi^*", "1.7"),
    ("Rossi", "1.7"),
    ("Ross", ""),
    ("Yamada", ""),
    ("***", "1.1 1.2 1.3 1.4 1.5 1.6 1.7 1.99"),
]


@pytest.mark.spec("DN-5", "DN-12")
@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY])
async def test_person_names_match_blind_to_case_accents_and_width(
    archive: Catalogue, level: Level
) -> None:
    for pattern, expected in NAME_PATTERNS:
        matching: Matching = Wildcard(pattern) if set("*?") & set(pattern) else Single(pattern)
        found = await find(archive, level, PatientName=matching)
        if level is Level.PATIENT:
            assert len(found) == len(expected.split()), pattern
        else:
            assert found == expected.split(), pattern


@pytest.mark.spec("DN-5")
async def test_fuzzy_names_match_the_beginnings_of_words_in_any_order(archive: Catalogue) -> None:
    for text, expected in (
        ("jürg mull", ["1.3"]),
        ("Taro YAMA", ["1.1"]),
        ("太 山", ["1.1"]),
        ("tan", ["1.2"]),
        ("anaka", []),
        ("ken tarou", []),
        ("Kim^Hui", ["1.6"]),
    ):
        assert await find(archive, fuzzy=True, PatientName=text) == expected, text
        found = await find(archive, Level.PATIENT, fuzzy=True, PatientName=text)
        assert len(found) == len(expected), text
        assert await find(archive, PatientName=text) == [], text


@pytest.mark.spec("DN-5")
async def test_other_texts_match_exactly_with_case(archive: Catalogue) -> None:
    assert await find(archive, PatientID="muller") == ["1.3"]
    assert await find(archive, PatientID="MULLER") == []
    assert await find(archive, AccessionNumber="Acc2") == ["1.2"]
    assert await find(archive, AccessionNumber="acc2") == []
    assert await find(archive, AccessionNumber=Wildcard("Acc?")) == [f"1.{n}" for n in range(1, 8)]
    assert await find(archive, AccessionNumber=Wildcard("ACC*")) == []
    assert await find(archive, StudyDescription=Wildcard("*mull*")) == ["1.3"]
    assert await find(archive, StudyDescription=Wildcard("* percent")) == ["1.5"]
    assert await find(archive, PatientID=UidList(("kim", "muller", "x"))) == ["1.3", "1.6"]


@pytest.mark.spec("DN-5")
async def test_dates_and_times_match_as_ranges(archive: Catalogue) -> None:
    assert await find(archive, StudyDate="20240103") == ["1.3"]
    assert await find(archive, StudyDate=DateRange("20240102", "20240104")) == ["1.2", "1.3", "1.4"]
    assert await find(archive, StudyDate=DateRange("20240106", "")) == ["1.6", "1.7"]
    assert await find(archive, StudyDate=DateRange("", "20240102")) == ["1.1", "1.2"]
    assert await find(archive, StudyDate=DateRange("junk", "20240102")) == []
    assert await find(archive, StudyTime=TimeRange("1030", "11")) == ["1.2", "1.3"]
    assert await find(archive, StudyTime="1130") == ["1.3"]
    both = {
        "StudyDate": DateRange("20240102", "20240104"),
        "StudyTime": TimeRange("1100", "1100"),
    }
    assert await find(archive, **both) == []
    assert await find(archive, combined=True, **both) == ["1.3"]
    assert await find(archive, Level.SERIES, combined=True, **both) == ["1.3.1"]


@pytest.mark.spec("DN-5")
async def test_modalities_of_a_study_match_when_any_does(archive: Catalogue) -> None:
    assert await find(archive, ModalitiesInStudy="SR") == ["1.1"]
    assert await find(archive, ModalitiesInStudy="XX") == []
    assert await find(archive, ModalitiesInStudy=UidList(("SR", "MR"))) == [
        "1.1",
        "1.2",
        "1.4",
        "1.6",
    ]
    assert await find(archive, ModalitiesInStudy=Wildcard("?R")) == ["1.1", "1.2", "1.4", "1.6"]
    assert await find(archive, SOPClassesInStudy=SR) == ["1.1"]
    assert await find(archive, Level.SERIES, ModalitiesInStudy="SR") == ["1.1.1", "1.1.9"]


async def test_more_modalities_than_bits_are_still_told_apart(catalogue: Catalogue, make) -> None:
    for number in range(70):
        await catalogue.add(make(f"1.{number}", modality=f"M{number}"))
    for number in (0, 61, 62, 69):
        assert await find(catalogue, ModalitiesInStudy=f"M{number}") == [f"1.{number}"]
    assert len(await find(catalogue, ModalitiesInStudy=Wildcard("M6?"))) == 10
    assert await catalogue.check() == []


@pytest.mark.spec("DN-5")
async def test_counts_and_sets_come_back(archive: Catalogue) -> None:
    names = (
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "NumberOfPatientRelatedStudies",
        "NumberOfPatientRelatedSeries",
        "NumberOfPatientRelatedInstances",
        "PatientName",
    )
    keys = (
        FindKey(keyword="StudyInstanceUID", matching=Single("1.1")),
        *(FindKey(keyword=name) for name in names),
    )
    (row,) = [found async for found in archive.find(FindQuery(level=Level.STUDY, keys=keys))]
    assert row.values["ModalitiesInStudy"] == ("CT", "SR")
    assert len(row.values["SOPClassesInStudy"]) == 2
    assert [row.values[name] for name in names[2:7]] == [2, 3, 1, 2, 3]
    assert isinstance(row.values["PatientName"], PersonName)
    assert row.values["PatientName"].ideographic == "山田^太郎"


@pytest.mark.spec("DN-5")
async def test_lower_levels_match_their_own_keys_within_the_upper_ones(archive: Catalogue) -> None:
    study = {"StudyInstanceUID": "1.1"}
    assert await find(archive, Level.SERIES, **study) == ["1.1.1", "1.1.9"]
    assert await find(archive, Level.SERIES, **study, Modality="SR") == ["1.1.9"]
    assert await find(archive, Level.SERIES, SeriesNumber="3") == ["1.3.1"]
    assert await find(archive, Level.SERIES, SeriesDescription=Wildcard("AP [1]*")) == ["1.1.1"]
    assert len(await find(archive, Level.SERIES, PerformingPhysicianName=Wildcard("curie*"))) == 7
    assert await find(archive, Level.IMAGE, **study, InstanceNumber="02") == ["1.1.1.2"]
    assert await find(archive, Level.IMAGE, **study, SeriesInstanceUID="1.1.9") == ["1.1.9.1"]
    assert await find(archive, Level.IMAGE, PatientName=Wildcard("kim*")) == ["1.6.1.1"]
    assert await find(archive, Level.IMAGE, SOPInstanceUID=UidList(("1.6.1.1", "1.1.9.1"))) == [
        "1.1.9.1",
        "1.6.1.1",
    ]


@pytest.mark.spec("DN-5")
async def test_relational_queries_match_what_stands_below(archive: Catalogue) -> None:
    below = {"SeriesDescription": "lateral", "ModalitiesInStudy": "MR"}
    assert await find(archive, relational=True, **below) == ["1.2", "1.4", "1.6"]
    assert await find(archive, relational=True, SOPInstanceUID="1.1.9.1") == ["1.1"]
    assert await find(archive, Level.PATIENT, relational=True, Modality="SR") == ["yamada"]
    assert await find(archive, Level.PATIENT, relational=True, StudyDate="20240106") == ["kim"]
    assert await find(archive, Level.SERIES, relational=True, InstanceNumber="2") == [
        "1.1.1",
        "1.2.1",
    ]


async def test_every_supported_keyword_can_be_matched_and_returned(archive: Catalogue) -> None:
    for level in Level:
        for keyword in sorted(keywords(level)):
            for matching in (Universal(), Single("1"), Wildcard("1*"), UidList(("1", "2"))):
                query = FindQuery(level=level, keys=(FindKey(keyword=keyword, matching=matching),))
                rows = [row async for row in archive.find(query)]
                assert await archive.find_count(query) == len(rows), keyword
                assert all(keyword in row.values for row in rows)


async def test_nothing_of_a_value_becomes_sql(archive: Catalogue) -> None:
    for evil in ("' OR 1=1 --", '"; DROP TABLE study; --', "%", "_", "\\", "*'*", "?)", "[*"):
        for level in Level:
            for keyword in ("PatientName", "PatientID", "StudyDescription", "ModalitiesInStudy"):
                if keyword in keywords(level):
                    for matching in (Single(evil), Wildcard(evil), UidList((evil,))):
                        assert await find(archive, level, **{keyword: matching}) == [] or (
                            "%" in evil
                        )
    assert len(await find(archive)) == 8


async def test_offset_and_limit_cut_the_newest_first(archive: Catalogue) -> None:
    async def some(offset: int, limit: int | None) -> list[str]:
        query = FindQuery(level=Level.STUDY, offset=offset, limit=limit)
        return [str(row.values["StudyInstanceUID"]) async for row in archive.find(query)]

    everything = await some(0, None)
    assert everything[0] == "1.99"
    assert len(everything) == 8
    assert await some(2, 3) == everything[2:5]
    assert await some(7, 5) == everything[7:]
    assert await some(20, 5) == []
    assert await some(0, 0) == []


async def test_many_matches_come_in_portions(archive: Catalogue, monkeypatch) -> None:
    whole = await find(archive)
    series = await find(archive, Level.SERIES)
    monkeypatch.setattr("scrigno.catalogue.find.PORTION", 3)
    monkeypatch.setattr("scrigno.catalogue.selection.FEW", 2)
    monkeypatch.setattr("scrigno.catalogue.catalogue.FIND_PAGE", 2)
    assert await find(archive) == whole
    assert await find(archive, Level.SERIES) == series
    assert len(await find(archive, PatientName=Wildcard("*a*"), ModalitiesInStudy="CT")) == 2
    for keys in ((), (FindKey(keyword="StudyDescription", matching=Wildcard("Descr*")),)):
        for level in (Level.STUDY, Level.SERIES):
            query = FindQuery(level=level, keys=keys, offset=3, limit=3)
            part = [row async for row in archive.find(query)]
            query = FindQuery(level=level, keys=keys)
            assert part == [row async for row in archive.find(query)][3:6]
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        assert await find(archive, level, StudyDescription=Wildcard("descr*")) == []
        assert await find(archive, level, PatientName=Wildcard("*zzz*")) == []
    assert len(await find(archive, StudyDescription=Wildcard("*escr*"))) == 7
    assert len(await find(archive, fuzzy=True, PatientName="r")) == 1


async def test_a_query_that_is_closed_early_stops(archive: Catalogue) -> None:
    answers = archive.find(FindQuery(level=Level.STUDY))
    assert await anext(answers)
    await answers.aclose()
    async with asyncio.timeout(5):
        assert await archive.totals()
