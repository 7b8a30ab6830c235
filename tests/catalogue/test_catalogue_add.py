# SPDX-License-Identifier: Apache-2.0
"""Taking objects in: what defines a row, what is filled in, what is counted, what is refused."""

import asyncio
from pathlib import Path

import pytest

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindKey, FindQuery, Level, SequenceMatch, Single
from scrigno.catalogue.records import (
    AddOutcome,
    CapacityReached,
    StudyListQuery,
    StudyRow,
    Totals,
)
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.db.errors import DatabaseError

MR = "1.2.840.10008.5.1.4.1.1.4"


async def row(catalogue: Catalogue, study: str = "1.2.3") -> StudyRow:
    detail = await catalogue.study(study)
    assert detail is not None
    return detail.study


async def test_a_new_object_is_known_with_everything_it_said(catalogue, make) -> None:
    new = make(
        patient_name="Müller^Jürgen=ミュラー=みゅらー",
        patient_id="7",
        study_date="20240102",
        study_time="101112.5",
        series_number="3",
        instance_number="12",
        rows=512,
        number_of_frames=2,
        character_set="ISO_IR 192",
        copies=("data", "b1"),
        owed=("b2",),
        staged_as="j1",
    )
    result = await catalogue.add(new)
    assert result.outcome is AddOutcome.NEW
    assert result.new_study
    stored = await catalogue.instance("1.2.3.1.1")
    assert stored is not None
    assert stored.key == new.key
    assert stored.digest == new.digest
    assert (stored.rows, stored.number_of_frames, stored.instance_number) == (512, 2, "12")
    assert stored.received_at == new.received_at
    assert stored.staged_as == "j1"
    assert stored.held_by() == ("b1", "data")
    study = await row(catalogue)
    assert study.patient_name.text() == "Müller^Jürgen=ミュラー=みゅらー"
    assert study.character_set == "ISO_IR 192"
    assert (study.study_date, study.study_time) == ("20240102", "101112.5")
    assert await catalogue.totals() == Totals(
        patients=1, studies=1, series=1, instances=1, size_bytes=1000
    )
    assert await catalogue.check() == []


async def test_an_unusual_key_is_kept(catalogue, make) -> None:
    import dataclasses

    await catalogue.add(dataclasses.replace(make(), key="elsewhere/x.dcm"))
    stored = await catalogue.instance("1.2.3.1.1")
    assert stored is not None
    assert stored.key == "elsewhere/x.dcm"
    again = await catalogue.add(make())
    assert again.existing_key == "elsewhere/x.dcm"


async def test_later_objects_fill_in_what_was_empty_and_change_nothing_else(
    catalogue, make
) -> None:
    await catalogue.add(make(patient_id="7", study_description="first", series_description=""))
    await catalogue.add(
        make(
            sop="1.2.3.1.2",
            patient_id="7",
            patient_name="Rossi^Ada",
            patient_sex="F",
            study_description="second",
            accession_number="A1",
            institution_name="Clinica",
            study_date="20240101",
            series_number="4",
            body_part_examined="HEAD",
        )
    )
    study = await row(catalogue)
    assert study.study_description == "first"
    assert study.accession_number == "A1"
    assert study.patient_name.text() == "Rossi^Ada"
    assert study.body_parts == ("HEAD",)
    assert study.institution_name == "Clinica"
    for search in ("rossi", "a1", "first"):
        assert (await catalogue.study_page(StudyListQuery(search=search))).total == 1, search
    patients = [
        found
        async for found in catalogue.find(
            FindQuery(level=Level.PATIENT, keys=(FindKey(keyword="PatientSex"),))
        )
    ]
    assert [found.values["PatientSex"] for found in patients] == ["F"]
    assert (await catalogue.study_page(StudyListQuery(search="second"))).total == 0


async def test_filling_in_goes_on_after_a_restart(index_path: Path, make) -> None:
    async with Catalogue(index_path, counters=Counters(), clock=SystemClock()) as first:
        await first.add(make(patient_id="7", modality="CT"))
    async with Catalogue(index_path, counters=Counters(), clock=SystemClock()) as second:
        await second.add(
            make(sop="1.2.3.1.2", patient_id="7", patient_sex="M", study_id="S", series_number="2")
        )
        study = await row(second)
        assert (study.patient_sex, study.study_id, study.number_of_series) == ("M", "S", 1)
        assert await second.check() == []


async def test_another_patients_object_in_a_study_lends_it_nothing(catalogue, make) -> None:
    await catalogue.add(make(patient_id="7"))
    await catalogue.add(make(sop="1.2.3.1.2", patient_id="8", patient_name="Wrong^One"))
    assert (await row(catalogue)).patient_name.text() == ""


async def test_sets_and_counters_of_a_study_follow_its_objects(catalogue, make) -> None:
    await asyncio.gather(
        catalogue.add(make(series="1.2.3.1", sop="1.1", modality="CT", size=10)),
        catalogue.add(make(series="1.2.3.1", sop="1.2", modality="CT", size=20)),
        catalogue.add(
            make(series="1.2.3.2", sop="2.1", modality="MR", sop_class=MR, size=5, minutes=9)
        ),
        catalogue.add(make(series="1.2.3.3", sop="3.1", modality="SR", minutes=3)),
    )
    study = await row(catalogue)
    assert study.modalities == ("CT", "MR", "SR")
    assert study.sop_classes == ("1.2.840.10008.5.1.4.1.1.2", MR)
    assert (study.number_of_series, study.number_of_instances, study.size_bytes) == (3, 4, 1035)
    assert (study.received_last - study.received_first).total_seconds() == 540
    assert await catalogue.check() == []


@pytest.mark.spec("ST-10")
async def test_the_same_bytes_again_are_the_same_object(catalogue, make) -> None:
    await catalogue.add(make(copies=("data",), owed=("b1",)))
    again = await catalogue.add(make(copies=("data", "b1"), owed=("b2",), staged_as="j9"))
    assert again.outcome is AddOutcome.SAME
    stored = await catalogue.instance("1.2.3.1.1")
    assert stored is not None
    assert stored.held_by() == ("b1", "data")
    assert stored.staged_as == "j9"
    assert (await catalogue.totals()).instances == 1
    assert await catalogue.debt_counts() == {"b2": 1}
    assert await catalogue.check() == []


@pytest.mark.spec("ST-10")
async def test_other_bytes_under_a_known_uid_change_nothing(catalogue, make) -> None:
    first = make()
    await catalogue.add(first)
    other = await catalogue.add(
        make(
            sop="1.2.3.1.1",
            content="other",
            study_description="other",
            copies=("b1",),
            series="1.2.3.9",
        )
    )
    assert other.outcome is AddOutcome.DIFFERENT
    assert (other.existing_key, other.existing_digest) == (first.key, first.digest)
    assert (await row(catalogue)).study_description == ""
    assert (await catalogue.totals()).series == 1
    assert list(await catalogue.volume_tallies()) == ["data"]


async def test_duplicates_within_one_transaction_are_told_apart(catalogue, make) -> None:
    results = await asyncio.gather(
        catalogue.add(make()),
        catalogue.add(make(copies=("b1",))),
        catalogue.add(make(content="other")),
        catalogue.add(make(sop="9")),
    )
    assert [each.outcome for each in results] == [
        AddOutcome.NEW,
        AddOutcome.SAME,
        AddOutcome.DIFFERENT,
        AddOutcome.NEW,
    ]
    stored = await catalogue.instance("1.2.3.1.1")
    assert stored is not None
    assert stored.held_by() == ("b1", "data")
    assert (await catalogue.totals()).instances == 2
    assert await catalogue.check() == []


@pytest.mark.spec("ST-10")
async def test_the_same_id_with_another_name_is_shown_and_not_merged(catalogue, make) -> None:
    await catalogue.add(make("1.1", patient_id="7", patient_name="Rossi^Ada"))
    same = await catalogue.add(make("1.2", patient_id="7", patient_name="ROSSI^ADA"))
    other = await catalogue.add(make("1.3", patient_id="7", patient_name="Bianchi^Ugo"))
    assert not same.patient_conflict
    assert other.patient_conflict
    study = await row(catalogue, "1.3")
    assert study.patient_conflict
    assert study.patient_name.text() == "Bianchi^Ugo"
    assert (await row(catalogue, "1.1")).patient_name.text() == "Rossi^Ada"
    assert (await catalogue.totals()).patients == 1


async def test_another_issuer_is_another_patient(catalogue, make) -> None:
    await catalogue.add(make("1.1", patient_id="7", issuer_of_patient_id="A"))
    await catalogue.add(make("1.2", patient_id="7", issuer_of_patient_id="B"))
    assert (await catalogue.totals()).patients == 2


async def test_without_an_id_names_keep_patients_apart(catalogue, make) -> None:
    await catalogue.add(make("1.1", patient_name="A"))
    await catalogue.add(make("1.2", patient_name="B"))
    await catalogue.add(make("1.3", patient_name="B"))
    assert (await catalogue.totals()).patients == 2


@pytest.mark.spec("AD-8")
async def test_the_limit_of_studies_refuses_new_studies_only(index_path: Path, make) -> None:
    limit: int | None = 2
    async with Catalogue(
        index_path, counters=Counters(), clock=SystemClock(), max_studies=lambda: limit
    ) as catalogue:
        results = await asyncio.gather(
            *(catalogue.add(make(f"1.{n}")) for n in range(4)), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, CapacityReached)]
        assert len(refused) == 2
        assert "2 studies" in refused[0].sentence()
        await catalogue.add(make("1.0", sop="more"))  # a known study goes on
        assert (await catalogue.totals()).studies == 2
        limit = None
        await catalogue.add(make("1.9"))
        assert await catalogue.check() == []


async def test_counters_stay_right_when_a_neighbour_fails(catalogue, make) -> None:
    await catalogue.add(make())
    bad = make(sop="bad", copies=("data", "data"))  # one volume cannot hold it twice
    results = await asyncio.gather(
        *(catalogue.add(make(sop=f"5.{n}", owed=("b1",))) for n in range(20)),
        catalogue.add(bad),
        *(catalogue.add(make("9.9", sop=f"6.{n}")) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Exception) for each in results) == 1
    assert await catalogue.instance("bad") is None
    assert (await catalogue.totals()).instances == 41
    assert await catalogue.check() == []


async def test_counters_stay_right_when_a_commit_fails(catalogue, make) -> None:
    await catalogue.add(make())
    intake = catalogue._intake
    flush = intake.gains.flush

    def failing(connection) -> None:
        intake.gains.flush = flush
        flush(connection)
        raise OSError("the disk went away")

    intake.gains.flush = failing
    results = await asyncio.gather(
        *(catalogue.add(make("8.8", sop=f"5.{n}", owed=("b1",))) for n in range(20)),
        return_exceptions=True,
    )
    assert any(isinstance(each, OSError) for each in results)
    await asyncio.gather(*(catalogue.add(make("8.8", sop=f"6.{n}")) for n in range(5)))
    assert await catalogue.check() == []


async def test_many_adds_at_once_share_transactions(catalogue, make) -> None:
    commits = 0
    intake = catalogue._intake
    before_commit = intake.before_commit

    def counting(connection) -> None:
        nonlocal commits
        commits += 1
        before_commit(connection)

    catalogue._db._writer._hooks.before_commit = counting
    await asyncio.gather(*(catalogue.add(make(f"1.{n % 7}", sop=f"2.{n}")) for n in range(600)))
    assert (await catalogue.totals()).instances == 600
    assert commits < 60
    assert await catalogue.check() == []


async def test_a_text_that_cannot_be_encoded_keeps_no_object_out(catalogue, make) -> None:
    results = await asyncio.gather(
        catalogue.add(make("1.1", study_description="half a pair \ud83d")),
        catalogue.add(make("1.2")),
    )
    assert all(each.outcome is AddOutcome.NEW for each in results)
    assert (await row(catalogue, "1.1")).study_description == "half a pair ?"


async def test_uids_that_are_none_are_kept_too(catalogue, make) -> None:
    await catalogue.add(make("../../etc", series="a/b", sop="'; DROP TABLE study; --"))
    stored = await catalogue.instance("'; DROP TABLE study; --")
    assert stored is not None
    assert ".." not in stored.key
    assert (await catalogue.totals()).studies == 1


async def test_request_attributes_are_matched_item_by_item(catalogue, make) -> None:
    items = (
        {"RequestedProcedureID": "P1", "ScheduledProcedureStepID": "S1"},
        {"RequestedProcedureID": "P2", "ScheduledProcedureStepID": "S2"},
    )
    await catalogue.add(make(request_attributes=items))

    async def count(**wanted: str) -> int:
        keys = tuple(FindKey(keyword=k, matching=Single(v)) for k, v in wanted.items())
        key = FindKey(keyword="RequestAttributesSequence", matching=SequenceMatch(keys))
        return await catalogue.find_count(FindQuery(level=Level.SERIES, keys=(key,)))

    assert await count(RequestedProcedureID="P1", ScheduledProcedureStepID="S1") == 1
    assert await count(RequestedProcedureID="P1", ScheduledProcedureStepID="S2") == 0
    assert await count(RequestedProcedureID="P2") == 1
    detail = await catalogue.study("1.2.3")
    assert detail is not None
    assert detail.series[0].attributes.request_attributes == items


async def test_nothing_of_a_patient_is_shown_by_repr(catalogue, make) -> None:
    await catalogue.add(make(patient_id="secret1", patient_name="secret2", patient_sex="F"))
    page = await catalogue.study_page(StudyListQuery())
    rows = [found async for found in catalogue.find(FindQuery(
        level=Level.STUDY,
        keys=(FindKey(keyword="PatientName"), FindKey(keyword="PatientBirthDate")),
    ))]  # fmt: skip
    assert "secret" not in repr(page)
    assert "secret" not in repr(rows)


async def test_removing_objects_leaves_nothing_empty_behind(catalogue, make) -> None:
    await catalogue.add(make("1.1", patient_id="1", modality="CT", owed=("b1",)))
    await catalogue.add(make("1.1", series="2", sop="2.1", patient_id="1", modality="XA"))
    await catalogue.add(make("1.2", patient_id="2"))
    assert await catalogue.remove(["2.1", "unknown", "1.2.1.1"]) == 2
    assert await catalogue.totals() == Totals(
        patients=1, studies=1, series=1, instances=1, size_bytes=1000
    )
    assert (await row(catalogue, "1.1")).modalities == ("CT",)
    assert await catalogue.check() == []
    await catalogue.add(make("1.2", patient_id="2"))
    assert (await catalogue.totals()).studies == 2
    await catalogue.remove(["1.2.1.1", "1.1.1.1"])
    assert (await catalogue.totals()).patients == 0
    assert await catalogue.debt_counts() == {}


async def test_forgetting_all_leaves_an_index_that_works(catalogue, make) -> None:
    await asyncio.gather(*(catalogue.add(make(f"1.{n}", owed=("b1",))) for n in range(30)))
    await asyncio.gather(catalogue.add(make("1.77")), catalogue.forget_all())
    assert (await catalogue.totals()).studies == 0
    assert (await catalogue.study_page(StudyListQuery(search="1"))).total == 0
    await catalogue.add(make("1.5", patient_name="Back^Again"))
    assert (await catalogue.study_page(StudyListQuery(search="back"))).total == 1
    assert await catalogue.check() == []


async def test_check_finds_a_counter_that_is_wrong(catalogue, make) -> None:
    await catalogue.add(make())
    await catalogue._db.write(lambda c: c.execute("UPDATE series SET number_of_instances = 9"))
    await catalogue._db.write(lambda c: c.execute("UPDATE volume_tally SET owed = 9"))
    found = await catalogue.check()
    assert len(found) == 3
    assert any("volume" in each for each in found)


async def test_a_failing_index_is_told_as_such(index_path: Path, make) -> None:
    catalogue = Catalogue(index_path, counters=Counters(), clock=SystemClock())
    with pytest.raises(DatabaseError):
        await catalogue.add(make())
