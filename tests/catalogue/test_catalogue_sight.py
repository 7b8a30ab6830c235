# SPDX-License-Identifier: Apache-2.0
"""Questions asked within what somebody sees, compared with doing it by hand."""

import dataclasses
import itertools

import pytest

from scrigno.catalogue import within as sights
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single, Universal, Wildcard
from scrigno.catalogue.records import FilterOperator, ListFilter, Origin, StudyListQuery
from scrigno.core.sight import EVERYTHING, Sight

# study → patient, modalities of its series, body parts, institution, who sent it
STUDIES = {
    "1.1": ("P1", ("CT",), ("CHEST",), "Ospedale Nord", ("CT1",)),
    "1.2": ("P1", ("MR",), ("HEAD", "NECK"), "OSPEDALE NORD", ("MR1",)),
    "1.3": ("P2", ("CT", "SR"), ("CHESTWALL",), "Clinica Sud", ("CT1", "CT2")),
    "1.4": ("P3", ("US",), ("",), "", ("",)),
    "1.5": ("P4", ("PT", "CT"), ("CHEST", "HEAD"), "Clinica Sud", ("PET",)),
}
SIGHTS = {
    "everything": EVERYTHING,
    "modality": Sight(modalities=("CT",)),
    "two modalities": Sight(modalities=("SR", "US")),
    "a modality of nobody": Sight(modalities=("XX",)),
    "a part of a word is no body part": Sight(body_parts=("CHEST",)),
    "institution, however written": Sight(institutions=("ospedale nord",)),
    "an institution of nobody": Sight(institutions=("Ospedale",)),
    "source": Sight(sources=("CT2", "PET")),
    "a source of nobody": Sight(sources=("CT",)),
    "several conditions": Sight(modalities=("CT",), institutions=("Clinica Sud",)),
    "all conditions": Sight(
        modalities=("CT",), body_parts=("HEAD",), institutions=("Clinica Sud",), sources=("PET",)
    ),
    "studies by name": Sight(study_uids=frozenset({"1.2", "1.4", "9.9"})),
    "named, and of a modality": Sight(study_uids=frozenset({"1.2", "1.4"}), modalities=("MR",)),
    "nothing": Sight(study_uids=frozenset()),
    "a quote in a name": Sight(institutions=("x' OR 1=1 --",)),
}


def by_hand(sight: Sight) -> set[str]:
    seen = set()
    for uid, (_, modalities, parts, institution, sources) in STUDIES.items():
        folded = [each.casefold() for each in sight.institutions]
        if (
            (not sight.modalities or set(modalities) & set(sight.modalities))
            and (not sight.body_parts or set(parts) & set(sight.body_parts))
            and (not folded or institution.casefold() in folded)
            and (not sight.sources or set(sources) & set(sight.sources))
            and (sight.study_uids is None or uid in sight.study_uids)
        ):
            seen.add(uid)
    return seen


@pytest.fixture
async def archive(catalogue: Catalogue, make) -> Catalogue:
    for uid, (patient, modalities, parts, institution, sources) in STUDIES.items():
        series = max(len(modalities), len(parts), len(sources))
        for number in range(series):
            new = make(
                uid,
                series=f"{uid}.{number + 1}",
                patient_id=patient,
                patient_name=f"Rossi^{patient}",
                modality=modalities[min(number, len(modalities) - 1)],
                body_part_examined=parts[min(number, len(parts) - 1)],
                institution_name=institution,
                study_date="20240101",
            )
            origin = Origin(door="dicom", calling_ae=sources[min(number, len(sources) - 1)])
            await catalogue.add(dataclasses.replace(new, origin=origin))
    return catalogue


async def found(catalogue: Catalogue, query: FindQuery, within: Sight) -> list:
    return [row async for row in catalogue.find(query, within=within)]


@pytest.mark.spec("AD-7")
@pytest.mark.parametrize("name", SIGHTS)
async def test_every_question_answers_within_what_is_seen(archive: Catalogue, name: str):
    sight = SIGHTS[name]
    expected = by_hand(sight)
    for query in (
        StudyListQuery(),
        StudyListQuery(sort="patient_name", descending=False),
        StudyListQuery(search="ros"),
        StudyListQuery(filters=(ListFilter(field="study_date", values=("20240101",)),)),
        StudyListQuery(filters=(ListFilter(field="series_date", values=("",)),)),
    ):
        page = await archive.study_page(query, within=sight)
        assert {row.study_instance_uid for row in page.rows} == expected, query
        assert page.total == len(expected)
    for uid in STUDIES:
        seen = uid in expected
        assert (await archive.study(uid, within=sight) is not None) == seen
        assert (await archive.instance(f"{uid}.1.1", within=sight) is not None) == seen
        assert bool(await archive.instances(uid, within=sight)) == seen
        assert bool(await archive.instances(uid, f"{uid}.1", within=sight)) == seen
        assert bool(await archive.instances(uid, None, [f"{uid}.1.1"], within=sight)) == seen
    assert await archive.seen([*STUDIES, "9.9"], within=sight) == expected


@pytest.mark.spec("AD-7", "DN-5", "IN-5")
@pytest.mark.parametrize("name", SIGHTS)
async def test_queries_at_every_level_answer_within_what_is_seen(archive: Catalogue, name: str):
    sight = SIGHTS[name]
    expected = by_hand(sight)
    patients = {STUDIES[uid][0] for uid in expected}
    for keys, relational in itertools.product(
        (
            (),
            (FindKey(keyword="PatientName", matching=Wildcard("ROSSI*")),),
            (FindKey(keyword="PatientID", matching=Wildcard("*P*")),),
        ),
        (False, True),
    ):
        for level, unique, wanted in (
            (Level.STUDY, "StudyInstanceUID", expected),
            (Level.PATIENT, "PatientID", patients),
        ):
            query = FindQuery(level=level, keys=keys, relational=relational)
            rows = await found(archive, query, sight)
            assert {row.values[unique] for row in rows} == wanted, (level, keys, relational)
            assert await archive.find_count(query, within=sight) == len(wanted)
        for level in (Level.SERIES, Level.IMAGE):
            query = FindQuery(level=level, keys=keys, relational=relational)
            rows = await found(archive, query, sight)
            assert {row.values["StudyInstanceUID"] for row in rows} == expected
            assert await archive.find_count(query, within=sight) == len(rows)


@pytest.mark.spec("AD-7", "DN-5")
async def test_an_image_that_is_named_is_not_found_in_a_study_that_is_not_seen(archive: Catalogue):
    query = FindQuery(
        level=Level.IMAGE,
        keys=(
            FindKey(keyword="StudyInstanceUID", matching=Single("1.1")),
            FindKey(keyword="SOPInstanceUID", matching=Single("1.1.1.1")),
        ),
    )
    assert len(await found(archive, query, EVERYTHING)) == 1
    assert await found(archive, query, Sight(modalities=("MR",))) == []


@pytest.mark.spec("AD-7", "DN-5")
async def test_a_patient_counts_only_the_studies_that_are_seen(archive: Catalogue):
    counts = ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances")
    for level in (Level.PATIENT, Level.STUDY):
        query = FindQuery(
            level=level,
            keys=(
                FindKey(keyword="PatientID", matching=Single("P1")),
                *(FindKey(keyword=each, matching=Universal()) for each in counts),
            ),
        )
        for sight, studies, instances in (
            (EVERYTHING, 2, 3),
            (Sight(modalities=("CT",)), 1, 1),
            (Sight(body_parts=("HEAD",)), 1, 2),
            (Sight(sources=("CT1",)), 1, 1),
            (Sight(study_uids=frozenset({"1.1"})), 1, 1),
        ):
            (row, *_) = await found(archive, query, sight)
            assert [row.values[each] for each in counts] == [studies, instances], sight


@pytest.mark.spec("AD-7")
async def test_a_study_whose_last_object_of_a_source_left_is_not_seen_by_it(archive: Catalogue):
    only = Sight(sources=("CT2",))
    assert await archive.seen(["1.3"], within=only) == {"1.3"}
    await archive.remove(["1.3.2.1"])
    assert await archive.seen(["1.3"], within=only) == frozenset()
    assert await archive.seen(["1.3"], within=Sight(sources=("CT1",))) == {"1.3"}


@pytest.mark.spec("AD-7", "ST-7")
async def test_the_number_of_a_study_that_left_gives_nothing_to_the_next(archive: Catalogue, make):
    # rows may be given the numbers of rows that are gone
    one = make("1.9", patient_id="P8")
    await archive.add(dataclasses.replace(one, origin=Origin(door="dicom", calling_ae="PET")))
    assert await archive.seen(["1.9"], within=Sight(sources=("PET",))) == {"1.9"}
    await archive.remove(["1.9.1.1"])
    await archive.add(make("2.1", modality="CT", patient_id="P9"))
    assert await archive.seen(["2.1"], within=Sight(sources=("PET",))) == frozenset()
    assert await archive.seen(["2.1"], within=Sight(sources=("CT1",))) == {"2.1"}
    await archive.forget_all()
    assert await archive.seen(["1.1"], within=Sight(sources=("CT1",))) == frozenset()


@pytest.mark.spec("AD-7")
async def test_a_modality_beyond_the_62nd_hides_and_shows_like_the_others(
    catalogue: Catalogue, make
):
    for number in range(70):
        await catalogue.add(make(f"3.{number}", modality=f"M{number}"))
    for number in (0, 61, 62, 69):
        page = await catalogue.study_page(
            StudyListQuery(), within=Sight(modalities=(f"M{number}",))
        )
        assert [row.study_instance_uid for row in page.rows] == [f"3.{number}"]


@pytest.mark.spec("AD-7", "DB-1")
async def test_what_everybody_asks_is_asked_as_before_and_a_sight_finds_by_indexes(
    archive: Catalogue,
):
    def plans(connection) -> dict[str, str]:
        assert sights.conditions_of(connection, EVERYTHING) == []
        found = {}
        for name, sight in SIGHTS.items():
            for condition in sights.conditions_of(connection, sight):
                for arm in condition.arms:
                    rows = connection.execute(f"EXPLAIN QUERY PLAN {arm.text}", arm.parameters)
                    found[name] = " ".join(str(row[3]) for row in rows)
        return found

    for name, plan in (await archive.engine.read(plans)).items():
        assert "SCAN study" not in plan, (name, plan)
        assert "SCAN series" not in plan, (name, plan)
    query = StudyListQuery(
        filters=(
            ListFilter(field="patient_name", operator=FilterOperator.CONTAINS, values=("ROSSI",)),
        )
    )
    page = await archive.study_page(query, within=Sight(modalities=("CT",)))
    assert page.total == 3
