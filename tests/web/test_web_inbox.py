# SPDX-License-Identifier: Apache-2.0
"""Decisions by the API: kept objects and patients in conflict, each taken back exactly."""

import asyncio
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from made_objects import write_series


def changed(source: Path, target: Path, **attributes: str) -> None:
    """Write a copy of a file with other attributes."""
    image = pydicom.dcmread(source)
    for name, value in attributes.items():
        setattr(image, name, value)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(target, enforce_file_format=True)


async def rivals(box, tmp_path: Path) -> str:
    """Take in one image and another of the same UID; returns the UID."""
    made = await asyncio.to_thread(write_series, tmp_path / "one", images=1)
    ((uid, path),) = made.items()
    await asyncio.to_thread(changed, path, tmp_path / "two" / "x.dcm", StudyDescription="Other")
    await box.parts.importer.import_paths([tmp_path / "one"])
    report = await box.parts.importer.import_paths([tmp_path / "two"])
    assert report.conflict == 1, report
    return uid


async def only(anna) -> dict:
    (item,) = (await anna.json("GET", "/inbox"))["items"]
    return item


async def archived(anna, uid: str) -> str:
    """Return the study description under which an image stands in the archive."""
    rows = (await anna.json("GET", "/studies"))["rows"]
    return ", ".join(sorted(each["study_description"] for each in rows))


@pytest.mark.spec("ST-10")
async def test_a_rejected_object_can_be_had_back_until_it_is_purged(box, anna, tmp_path):
    uid = await rivals(box, tmp_path)
    item = await only(anna)
    assert (item["reason"], item["sop_instance_uid"]) == ("conflict", uid)
    made = await anna.json("POST", f"/inbox/{item['id']}/reject", json={"why": "sent by mistake"})
    assert (made["kind"], made["phase"], made["account"]) == ("reject", "done", "anna")
    assert made["item"]["sop_instance_uid"] == uid
    assert (await anna.json("GET", "/inbox"))["items"] == []
    (decided,) = (await anna.json("GET", "/inbox/decided"))["decisions"]
    assert decided["why"] == "sent by mistake"
    undone = await anna.json("POST", f"/decisions/{decided['id']}/undo", json={"why": "no"})
    assert (undone["phase"], undone["undone_by"], undone["undone_why"]) == ("undone", "anna", "no")
    assert (await only(anna))["sop_instance_uid"] == uid
    again = await anna.json("POST", f"/inbox/{(await only(anna))['id']}/reject")
    path = f"/inbox/decided/{again['id']}"
    await anna.ask("DELETE", path, status=400)
    await anna.ask("DELETE", path, status=204, json={"id": again["id"]})
    refused = await anna.json("POST", f"/decisions/{again['id']}/undo", status=409)
    assert refused["code"] == "decision-refused"
    await anna.ask("POST", "/inbox/999/reject", status=404)


@pytest.mark.spec("ST-10")
async def test_a_rival_takes_the_place_or_stands_beside_and_both_can_be_undone(box, anna, tmp_path):
    await rivals(box, tmp_path)
    item = await only(anna)
    refused = await anna.json("POST", f"/inbox/{item['id']}/accept", status=409)
    assert refused["code"] == "inbox-refused"
    replaced = await anna.json(
        "POST", f"/inbox/{item['id']}/replace", json={"why": "the right one"}
    )
    assert replaced["kind"] == "replace"
    await anna.json("POST", f"/decisions/{replaced['id']}/undo")
    beside = await anna.json("POST", f"/inbox/{(await only(anna))['id']}/keep-beside")
    assert beside["outcome"] == "new"
    assert (await anna.json("GET", "/studies"))["rows"][0]["number_of_instances"] == 2
    decided = (await anna.json("GET", "/inbox/decided"))["decisions"]
    assert [each["kind"] for each in decided] == ["beside", "replace"]
    await anna.json("POST", f"/decisions/{decided[0]['id']}/undo")
    assert (await anna.json("GET", "/studies"))["rows"][0]["number_of_instances"] == 1
    trail = {each["action"] for each in (await anna.json("GET", "/audit"))["entries"]}
    assert {"inbox-replaced", "inbox-kept-beside", "decision-undone"} <= trail


@pytest.mark.spec("ST-10")
async def test_an_unreadable_object_is_found_by_what_an_operator_gives(box, anna, tmp_path):
    await rivals(box, tmp_path)
    item = await only(anna)
    path = f"/inbox/{item['id']}/index"
    await anna.ask("POST", path, status=400, json={"attributes": ["x"]})
    refused = await anna.json("POST", path, status=409, json={"attributes": {"size": "1"}})
    assert "size" in refused["detail"]


async def two_persons(box, tmp_path: Path) -> None:
    """Two studies with one patient ID and two names."""
    made = await asyncio.to_thread(write_series, tmp_path / "one", images=1)
    (path,) = made.values()
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    uids = {name: generate_uid() for name in names}
    other = tmp_path / "two" / "x.dcm"
    await asyncio.to_thread(changed, path, other, PatientName="Verdi^Carla", **uids)
    for folder in ("one", "two"):
        await box.parts.importer.import_paths([tmp_path / folder])


@pytest.mark.spec("ST-10")
async def test_patients_in_conflict_are_kept_split_merged_fixed_and_undone(box, anna, tmp_path):
    await two_persons(box, tmp_path)
    listed = await anna.json("GET", "/patients/conflicts")
    assert listed["count"] == 1
    (case,) = listed["cases"]
    assert case["shown"]["patient_name"]["alphabetic"] == "Verdi^Carla"
    assert case["known"]["patient_name"]["alphabetic"] == "Rossi^Anna Lucia"
    path = f"/patients/conflicts/{case['study_instance_uid']}"
    await anna.ask("POST", f"{path}/keep", status=400, json={"why": "no version"})

    async def decide(verb: str, **more) -> dict:
        version = (await anna.json("GET", path))["version"]
        body = {"version": version, "why": "asked the ward", **more}
        return await anna.json("POST", f"{path}/{verb}", json=body)

    kept = await decide("keep")
    assert (await anna.json("GET", "/patients/conflicts"))["cases"] == []
    stale = {"version": case["version"], "why": ""}
    refused = await anna.json("POST", f"{path}/split", status=409, json=stale)
    assert refused["code"] == "decision-overtaken"
    await anna.json("POST", f"/decisions/{kept['id']}/undo")
    assert (await anna.json("GET", "/patients/conflicts"))["count"] == 1

    merged = await decide("merge", into=case["other_study_instance_uid"])
    assert merged["after"]["patient_name"]["alphabetic"] == "Rossi^Anna Lucia"
    detail = await anna.json("GET", path)
    assert detail["sent"]["patient_name"]["alphabetic"] == "Verdi^Carla"
    await anna.json("POST", f"/decisions/{merged['id']}/undo")

    await decide("split", issuer="WARD")
    await decide("fix", changes={"patient_id": "IT-002"})
    rows = (await anna.json("GET", "/studies"))["rows"]
    assert {each["patient_id"] for each in rows} == {"IT-001", "IT-002"}
    decided = (await anna.json("GET", "/patients/decided"))["decisions"]
    assert [each["kind"] for each in decided] == ["fix", "split", "merge", "keep"]
    assert len((await anna.json("GET", path))["history"]) == 4
    await anna.ask("POST", f"{path}/fix", status=400, json={"version": 0, "changes": "x"})
    await anna.ask("GET", "/patients/conflicts/1.2.3", status=404)
    entries = (await anna.json("GET", "/audit"))["entries"]
    assert "Verdi" not in str(entries)
    assert {"patient-split", "patient-fixed"} <= {each["action"] for each in entries}
