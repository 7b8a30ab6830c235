# SPDX-License-Identifier: Apache-2.0
"""Patients in conflict: what an operator decides shows at once and can be taken back exactly."""

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pysqlite3
import pytest

from scrigno.catalogue.cases import Verdict
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import (
    Decision,
    DecisionOvertaken,
    DecisionRefused,
    Demographics,
    Kind,
    Phase,
)
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single
from scrigno.catalogue.records import NewInstance, StudyListQuery
from scrigno.core.attributes import PersonName
from scrigno.core.phi import Phi

Make = Callable[..., NewInstance]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ANNA: dict[str, Any] = {
    "patient_id": "P1",
    "patient_name": "Rossi^Anna",
    "patient_birth_date": "19700101",
    "patient_sex": "F",
}
CARLA = ANNA | {"patient_name": "Bianchi^Carla", "patient_birth_date": "19850505"}


async def decide(catalogue: Catalogue, kind: Kind, study: str, **more: Any) -> Decision:
    version = more.pop("version", None)
    if version is None:
        version = await catalogue.cases.version(study)
    verdict = Verdict(kind=kind, study_uid=study, version=version, account="anna", **more)
    return await catalogue.cases.decide(verdict, NOW)


async def undo(catalogue: Catalogue, decision: Decision) -> Decision:
    return await catalogue.cases.undo_patient(decision.decision_id, "anna", "", NOW)


async def seen(catalogue: Catalogue) -> dict[str, list[tuple[Any, ...]]]:
    """Return what every door shows of patients and studies."""
    page = await catalogue.study_page(StudyListQuery(limit=1000))
    studies = [
        (
            row.study_instance_uid,
            row.patient_name.text(),
            str(row.patient_id),
            row.issuer_of_patient_id,
            str(row.patient_birth_date),
            row.patient_sex,
            str(row.patient_comments),
            row.patient_conflict,
        )
        for row in page.rows
    ]
    names = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
    keys = tuple(FindKey(keyword=name) for name in (*names, "NumberOfPatientRelatedStudies"))
    patients = [
        tuple(
            value.text() if isinstance(value, PersonName) else value
            for value in (row.values[key.keyword] for key in keys)
        )
        async for row in catalogue.find(FindQuery(level=Level.PATIENT, keys=keys))
    ]
    return {"studies": sorted(studies), "patients": sorted(patients, key=str)}


async def names_found(catalogue: Catalogue, search: str) -> list[str]:
    page = await catalogue.study_page(StudyListQuery(search=search))
    return sorted(row.study_instance_uid for row in page.rows)


async def exact(catalogue: Catalogue) -> None:
    assert await catalogue.check() == []
    totals = await catalogue.totals()
    patients = [row async for row in catalogue.find(FindQuery(level=Level.PATIENT, keys=()))]
    assert len(patients) == totals.patients


async def two_in_conflict(catalogue: Catalogue, make: Make) -> None:
    await catalogue.add(make("1.1", **ANNA))
    assert (await catalogue.add(make("1.2", minutes=5, **CARLA))).patient_conflict


@pytest.mark.spec("ST-10")
async def test_a_conflict_is_listed_with_both_patients(catalogue: Catalogue, make: Make) -> None:
    await two_in_conflict(catalogue, make)
    (case,) = await catalogue.cases.patients()
    assert (case.study_uid, case.other_study_uid, case.studies_of_patient) == ("1.2", "1.1", 2)
    assert case.shown.patient_name.text() == "Bianchi^Carla"
    assert case.known.patient_name.text() == "Rossi^Anna"
    assert "Rossi" not in repr(case)
    assert "1985" not in repr(case)
    assert await catalogue.cases.patients(after=case.case_id) == []
    waiting = await catalogue.cases.waiting()
    assert (waiting.patients, waiting.objects) == (1, 0)
    assert waiting.oldest == case.received_first
    same = await catalogue.cases.patient("1.1")
    assert same is not None
    assert not same.conflict
    assert await catalogue.cases.patient("9.9") is None


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Kind.KEEP, {}),
        (Kind.MERGE, {"into": "1.1"}),
        (Kind.SPLIT, {}),
        (Kind.SPLIT, {"issuer": "HOSPITAL-B"}),
        (Kind.FIX, {"changes": {"patient_id": "P2"}}),
        (Kind.FIX, {"changes": {"patient_id": ""}}),
        (Kind.FIX, {"changes": ANNA}),
    ],
)
@pytest.mark.parametrize("study", ["1.1", "1.2"])
async def test_each_decision_closes_the_case_and_is_taken_back_exactly(
    catalogue: Catalogue, make: Make, kind: Kind, more: dict[str, Any], study: str
) -> None:
    await two_in_conflict(catalogue, make)
    await catalogue.add(make("1.3", patient_id="P3", patient_name="Verdi^Ugo"))
    before = await seen(catalogue)
    if more.get("into") == study or (more.get("changes") == ANNA and study == "1.1"):
        more = dict.fromkeys(more, "1.2") if "into" in more else {"changes": CARLA}
    if kind is Kind.KEEP and study == "1.1":
        return  # it is the other one that is in conflict
    decision = await decide(catalogue, kind, study, **more)
    await exact(catalogue)
    assert await catalogue.cases.patients() == []
    after = await seen(catalogue)
    assert after != before
    undone = await undo(catalogue, decision)
    assert (undone.phase, undone.undone_by) == (Phase.UNDONE, "anna")
    assert await seen(catalogue) == before
    await exact(catalogue)


@pytest.mark.spec("ST-10")
async def test_a_merged_study_is_found_under_the_chosen_name_only(
    catalogue: Catalogue, make: Make
) -> None:
    await two_in_conflict(catalogue, make)
    decision = await decide(catalogue, Kind.MERGE, "1.2", into="1.1")
    assert await names_found(catalogue, "rossi") == ["1.1", "1.2"]
    assert await names_found(catalogue, "bianchi") == []
    query = FindQuery(
        level=Level.STUDY,
        keys=(FindKey(keyword="PatientName", matching=Single("Rossi^Anna")),),
    )
    assert await catalogue.find_count(query) == 2
    sent = await catalogue.cases.sent("1.2")
    assert sent is not None
    assert sent.patient_name.text() == "Bianchi^Carla"
    assert set(await catalogue.cases.corrected(["1.1", "1.2"])) == {"1.2"}
    await undo(catalogue, decision)
    assert await names_found(catalogue, "bianchi") == ["1.2"]
    assert await catalogue.cases.sent("1.2") is None


@pytest.mark.spec("ST-10")
async def test_two_patients_that_were_split_are_two_with_one_id(
    catalogue: Catalogue, make: Make
) -> None:
    await two_in_conflict(catalogue, make)
    await decide(catalogue, Kind.SPLIT, "1.2")
    shown = await seen(catalogue)
    assert [(p[0], p[2], p[5]) for p in shown["patients"]] == [
        ("P1", "Bianchi^Carla", 1),
        ("P1", "Rossi^Anna", 1),
    ]
    # whoever comes later with that ID is compared with the one who had it first
    assert not (await catalogue.add(make("1.4", **ANNA))).patient_conflict
    assert (await catalogue.add(make("1.5", **CARLA))).patient_conflict
    # and can be merged into the one that was split off
    await decide(catalogue, Kind.MERGE, "1.5", into="1.2")
    shown = await seen(catalogue)
    assert [(p[2], p[5]) for p in shown["patients"]] == [("Bianchi^Carla", 2), ("Rossi^Anna", 2)]
    await exact(catalogue)


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Kind.MERGE, {"into": "1.1"}),
        (Kind.SPLIT, {"issuer": "B"}),
        (Kind.FIX, {"changes": {"patient_id": "P2", "patient_name": ""}}),
        (Kind.KEEP, {}),
    ],
)
async def test_later_objects_follow_a_correction_and_undo_still_is_exact(
    index_path: Path,
    make: Make,
    reopened: bool,
    tmp_path: Path,
    kind: Kind,
    more: dict[str, Any],
) -> None:
    """Compared with an index to which the same objects came and where nobody decided anything."""
    from scrigno.core.clock import SystemClock
    from scrigno.core.counters import Counters

    def opened(path: Path) -> Catalogue:
        return Catalogue(path, counters=Counters(), clock=SystemClock())

    bare = CARLA | {"patient_birth_date": "", "patient_sex": ""}
    first = [make("1.1", **ANNA), make("1.2", minutes=5, **bare)]
    later = [
        make("1.2", sop="1.2.1.2", patient_comments="tall", **CARLA),
        make("1.2", series="1.2.9", **CARLA),
        make("1.6", minutes=9, **ANNA),
        make("1.2", sop="1.2.1.7", **(ANNA | {"patient_id": "P7", "other_patient_ids": "X"})),
    ]
    async with opened(tmp_path / "plain.db") as plain:
        for one in first + later:
            await plain.add(one)
        wanted = await seen(plain)
    catalogue = opened(index_path)
    await catalogue.open()
    for one in first:
        await catalogue.add(one)
    decision = await decide(catalogue, kind, "1.2", **more)
    decided = (await seen(catalogue))["studies"][1]
    if reopened:
        await catalogue.close()
        catalogue = opened(index_path)
        await catalogue.open()
    for one in later:
        await catalogue.add(one)
    shown = await seen(catalogue)
    filled = ("19850505", "F") if kind is Kind.KEEP else decided[4:6]
    # what was not corrected is filled in as ever
    assert shown["studies"][1] == (*decided[:4], *filled, "tall", False)
    assert await catalogue.cases.patients() == []
    await undo(catalogue, decision)
    assert await seen(catalogue) == wanted
    await exact(catalogue)
    await catalogue.close()


@pytest.mark.spec("ST-10")
async def test_a_corrected_study_that_goes_and_comes_again_is_corrected(
    catalogue: Catalogue, make: Make
) -> None:
    await two_in_conflict(catalogue, make)
    before = await seen(catalogue)
    decision = await decide(catalogue, Kind.FIX, "1.2", changes={"patient_id": "P2"})
    shown = await seen(catalogue)
    await catalogue.remove(["1.2.1.1"])
    await catalogue.add(make("1.2", minutes=5, **CARLA))
    assert await seen(catalogue) == shown
    await undo(catalogue, decision)
    assert await seen(catalogue) == before
    await decide(catalogue, Kind.FIX, "1.2", changes={"patient_id": "P2"})
    await catalogue.remove(["1.2.1.1"])
    last = (await catalogue.cases.decisions())[0]
    await undo(catalogue, last)  # while the study is not there
    await catalogue.add(make("1.2", minutes=5, **CARLA))
    assert await seen(catalogue) == before
    await exact(catalogue)


@pytest.mark.spec("ST-10")
async def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told(
    catalogue: Catalogue, make: Make
) -> None:
    await two_in_conflict(catalogue, make)
    (case,) = await catalogue.cases.patients()
    answers = await asyncio.gather(
        decide(catalogue, Kind.KEEP, "1.2", version=case.version),
        decide(catalogue, Kind.MERGE, "1.2", into="1.1", version=case.version),
        return_exceptions=True,
    )
    assert [type(each) for each in answers] == [Decision, DecisionOvertaken]
    decision = answers[0]
    assert isinstance(decision, Decision)
    undone = await asyncio.gather(
        undo(catalogue, decision), undo(catalogue, decision), return_exceptions=True
    )
    assert [type(each) for each in undone] == [Decision, DecisionOvertaken]
    with pytest.raises(DecisionOvertaken):  # what was seen before the undo is old too
        await decide(catalogue, Kind.KEEP, "1.2", version=case.version)


@pytest.mark.spec("ST-10")
async def test_decisions_on_one_study_are_taken_back_newest_first(
    catalogue: Catalogue, make: Make
) -> None:
    await two_in_conflict(catalogue, make)
    states = [await seen(catalogue)]
    made = []
    for kind, more in (
        (Kind.FIX, {"changes": {"patient_name": "Bianchi^Karla"}}),
        (Kind.MERGE, {"into": "1.1"}),
        (Kind.SPLIT, {"issuer": "B"}),
        (Kind.FIX, {"changes": {"patient_sex": "O"}}),
    ):
        made.append(await decide(catalogue, kind, "1.2", **more))
        states.append(await seen(catalogue))
    with pytest.raises(DecisionRefused, match="later decision"):
        await undo(catalogue, made[0])
    while made:
        assert await seen(catalogue) == states.pop()
        await undo(catalogue, made.pop())
    assert await seen(catalogue) == states.pop()
    with pytest.raises(DecisionRefused, match="no decision"):
        await catalogue.cases.undo_patient(999, "anna", "", NOW)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        (Kind.MERGE, {"into": "9.9"}, "merge into"),
        (Kind.MERGE, {"into": "1.2"}, "merge into"),
        (Kind.SPLIT, {"issuer": "A"}, "this issuer"),
        (Kind.FIX, {"changes": {}}, "Nothing would change"),
        (Kind.FIX, {"changes": {"patient_weight": "80"}}, "cannot be corrected"),
        (Kind.ACCEPT, {}, "no decision about a patient"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    catalogue: Catalogue, make: Make, kind: Kind, more: dict[str, Any], words: str
) -> None:
    await catalogue.add(make("1.1", issuer_of_patient_id="A", **ANNA))
    await catalogue.add(make("1.2", issuer_of_patient_id="A", **CARLA))
    before = await seen(catalogue)
    with pytest.raises(DecisionRefused, match=words):
        await decide(catalogue, kind, "1.2", **more)
    with pytest.raises(DecisionRefused, match="no such study"):
        await decide(catalogue, Kind.KEEP, "9.9")
    assert await seen(catalogue) == before
    assert await catalogue.cases.decisions() == []


async def test_a_correction_survives_a_lost_index_whichever_comes_first(
    catalogue: Catalogue, make: Make, tmp_path: Path
) -> None:
    from scrigno.core.clock import SystemClock
    from scrigno.core.counters import Counters

    await two_in_conflict(catalogue, make)
    await decide(catalogue, Kind.FIX, "1.2", changes={"patient_name": "Bianchi^Karla"})
    await decide(catalogue, Kind.MERGE, "1.2", into="1.1")
    dropped = await decide(catalogue, Kind.FIX, "1.1", changes={"patient_sex": "O"})
    await undo(catalogue, dropped)
    wanted = await seen(catalogue)
    known = await catalogue.cases.decisions()
    for order in ("decisions first", "objects first", "mixed"):
        path = tmp_path / f"{order}.db"
        async with Catalogue(path, counters=Counters(), clock=SystemClock()) as other:
            objects = [make("1.1", **ANNA), make("1.2", minutes=5, **CARLA)]
            if order == "objects first":
                for one in objects:
                    await other.add(one)
            elif order == "mixed":
                await other.add(objects.pop())
            for one in random.Random(1).sample(known, len(known)):
                assert await other.cases.learn(one)
                assert not await other.cases.learn(one)
            for one in objects:
                if order != "objects first":
                    await other.add(one)
            assert await seen(other) == wanted, order
            await exact(other)
            # the newer half of a record is learned too
            newest = (await other.cases.decisions(subject="1.2"))[0]
            undone = replace(newest, phase=Phase.UNDONE, undone_at=NOW, undone_by="b")
            assert await other.cases.learn(undone)
            assert not await other.cases.learn(undone)


async def test_conflicts_end_when_the_other_study_goes(catalogue: Catalogue, make: Make) -> None:
    await two_in_conflict(catalogue, make)
    await catalogue.remove(["1.1.1.1"])
    assert await catalogue.cases.patients() == []
    assert [p[2] for p in (await seen(catalogue))["patients"]] == ["Bianchi^Carla"]


async def test_a_conflict_that_a_later_object_brings_is_shown(
    catalogue: Catalogue, make: Make
) -> None:
    await catalogue.add(make("1.1", **ANNA))
    bare = {"patient_id": "P1", "patient_name": "Rossi^Anna"}
    assert not (await catalogue.add(make("1.2", **bare))).patient_conflict
    more = bare | {"patient_birth_date": "19990101"}
    await catalogue.add(make("1.2", sop="1.2.1.2", **more))
    assert [case.study_uid for case in await catalogue.cases.patients()] == ["1.2"]


async def test_counters_stay_right_when_a_number_is_given_again_at_once(
    catalogue: Catalogue, make: Make
) -> None:
    await catalogue.add(make("1.1", **ANNA))
    for round_ in range(20):
        study = f"2.{round_}"
        await catalogue.add(make(study, **ANNA))
        await asyncio.gather(
            catalogue.remove([f"{study}.1.1"]),
            catalogue.add(make(study, **CARLA)),
            catalogue.remove([f"2.{round_ - 1}.1.1"]),
        )
        await exact(catalogue)


async def test_no_patient_text_is_in_a_repr_of_a_decision(catalogue: Catalogue, make: Make) -> None:
    await two_in_conflict(catalogue, make)
    decision = await decide(catalogue, Kind.MERGE, "1.2", into="1.1", why="told by Rossi")
    assert "Rossi" not in repr(decision)
    assert "Bianchi" not in repr(decision)
    assert "Rossi" not in repr(Demographics(patient_name=PersonName(alphabetic=Phi("Rossi"))))


async def test_many_random_decisions_leave_exact_counters_and_undo_to_the_beginning(
    catalogue: Catalogue, make: Make
) -> None:
    choice = random.Random(20260301)
    names = ["Rossi^Anna", "Bianchi^Carla", "Verdi^Ugo", ""]
    for number in range(12):
        await catalogue.add(
            make(
                f"1.{number}",
                patient_id=choice.choice(["P1", "P2", ""]),
                patient_name=choice.choice(names),
                patient_sex=choice.choice(["F", "M", ""]),
            )
        )
    before = await seen(catalogue)
    made: list[Decision] = []
    for _ in range(60):
        study = f"1.{choice.randrange(12)}"
        more: dict[str, Any]
        kind = choice.choice([Kind.KEEP, Kind.MERGE, Kind.SPLIT, Kind.FIX])
        match kind:
            case Kind.MERGE:
                more = {"into": f"1.{choice.randrange(12)}"}
            case Kind.SPLIT:
                more = {"issuer": choice.choice(["", "A", "B"])}
            case Kind.FIX:
                more = {"changes": {"patient_name": choice.choice(names), "patient_id": "P3"}}
            case _:
                more = {}
        try:
            made.append(await decide(catalogue, kind, study, **more))
        except DecisionRefused:
            continue
        await exact(catalogue)
    assert len(made) > 20
    while made:
        await undo(catalogue, made.pop())
    assert await seen(catalogue) == before
    await exact(catalogue)


async def test_listing_conflicts_uses_its_index(index_path: Path, catalogue: Catalogue) -> None:
    with closing(pysqlite3.connect(index_path)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT study.id FROM study WHERE study.patient_conflict = 1 "
            "AND study.id > 5 ORDER BY study.id LIMIT 10"
        ).fetchall()
    assert "study_by_conflict" in str(plan)
