# SPDX-License-Identifier: Apache-2.0
"""Looking after images by the API: scrub, verified on, quarantine, protection, the index."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scrigno.catalogue.fixity import Mark


async def study_of(anna, patient: int = 0) -> dict:
    rows = (await anna.json("GET", "/studies?sort=study_date&order=asc"))["rows"]
    return rows[patient]


async def replicated(anna, objects: int, within_s: float = 15) -> None:
    ends = time.monotonic() + within_s
    while True:
        volumes = (await anna.json("GET", "/volumes"))["volumes"]
        if all(each["objects_held"] == objects for each in volumes):
            return
        assert time.monotonic() < ends, volumes
        await asyncio.sleep(0.1)


def rot(path: Path) -> None:
    """Turn one bit over in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def copy_of(box, volume: str, uid: str) -> Path:
    (found,) = (box.root / volume).rglob(f"studies/**/{uid}.dcm")
    return found


async def finished(anna, volume: str, within_s: float = 30) -> dict:
    ends = time.monotonic() + within_s
    while True:
        scrub = await anna.json("GET", "/scrub")
        (found,) = (each for each in scrub["volumes"] if each["volume"] == volume)
        if found["last_finished"]:
            return found
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.1)


@pytest.mark.spec("ST-6")
async def test_a_study_is_verified_on_demand_and_a_bad_copy_is_repaired(box, anna):
    uids = await box.take_in(images=3)
    await replicated(anna, 3)
    study = (await study_of(anna))["study_instance_uid"]
    assert (await study_of(anna))["verified_on"] is None
    before = copy_of(box, "backup1", uids[0]).read_bytes()
    await asyncio.to_thread(rot, copy_of(box, "backup1", uids[0]))
    report = await anna.json("POST", f"/studies/{study}/verify")
    assert (report["objects"], report["copies_good"], report["copies_bad"]) == (3, 5, 1)
    (bad,) = report["bad"]
    assert (bad["volume"], bad["sop_instance_uid"], bad["repaired"]) == ("backup1", uids[0], True)
    assert copy_of(box, "backup1", uids[0]).read_bytes() == before
    again = await anna.json("POST", f"/studies/{study}/verify")
    assert (again["copies_good"], again["copies_bad"], again["unverified_copies"]) == (6, 0, 0)
    assert (await study_of(anna))["verified_on"] == again["verified_on"]
    detail = (await anna.json("GET", f"/studies/{study}"))["study"]
    assert detail["verified_on"]
    copies = await anna.json("GET", f"/studies/{study}/copies?objects=yes")
    assert {each["volume"]: each["verified"] for each in copies["volumes"]} == {
        "data": 3, "backup1": 3,
    }  # fmt: skip
    assert len(copies["copies"]) == 6
    trail = await anna.json("GET", "/audit?action=study-verified")
    assert [each["subject"] for each in trail["entries"]] == [study, study]
    await anna.ask("POST", "/studies/1.2.3/verify", status=404)
    await anna.ask("GET", "/studies/1.2.3/copies", status=404)


@pytest.mark.spec("ST-6")
async def test_a_study_is_not_called_verified_while_one_copy_was_never_read_back(box, anna):
    (uid,) = await box.take_in(images=1)
    await replicated(anna, 1)
    for volume, wanted in (("data", False), ("backup1", True)):
        mark = Mark(name=uid, volume=volume, at=datetime.now(UTC))
        await box.parts.catalogue.copies_verified([mark])
        row = await study_of(anna)
        assert bool(row["verified_on"]) is wanted, volume


@pytest.mark.spec("ST-6")
async def test_a_scrub_that_is_asked_for_begins_at_once_and_sets_aside_what_rotted(box, anna):
    uids = await box.take_in(images=4)
    await replicated(anna, 4)
    await asyncio.to_thread(rot, copy_of(box, "data", uids[1]))
    assert (await anna.json("POST", "/scrub/pause"))["paused"]
    assert not (await anna.json("POST", "/scrub/resume"))["paused"]
    await anna.json("POST", "/scrub/run", json={"volume": "data"})
    found = await finished(anna, "data")
    assert (found["checked_objects"], found["bad"], found["repaired"]) == (4, 1, 1)
    assert not found["overdue"]
    (aside,) = (await anna.json("GET", "/quarantine"))["files"]
    assert (aside["volume"], aside["why"]) == ("data", "changed")
    assert aside["object_key"].endswith(f"{uids[1]}.dcm")
    assert (await anna.json("GET", "/quarantine?volume=backup1"))["files"] == []
    assert (await anna.json("GET", "/lost"))["objects"] == []
    await anna.ask("POST", "/scrub/run", status=409, json={"volume": "nothing"})
    trail = (await anna.json("GET", "/audit"))["entries"]
    assert {"scrub-pause", "scrub-resume", "scrub-run"} <= {each["action"] for each in trail}


def staging_let_go(folder: Path, within_s: float = 15) -> None:
    """Wait until staging, which would be a third copy, holds nothing any more."""
    ends = time.monotonic() + within_s
    while [each for each in folder.iterdir() if each.name != "journal"]:
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.spec("ST-6")
async def test_an_image_without_a_good_copy_is_named_with_its_study(box, anna):
    uids = await box.take_in(images=2)
    await replicated(anna, 2)
    await asyncio.to_thread(staging_let_go, box.root / "staging" / "objects")
    study = (await study_of(anna))["study_instance_uid"]
    for volume in ("data", "backup1"):
        await asyncio.to_thread(rot, copy_of(box, volume, uids[0]))
    report = await anna.json("POST", f"/studies/{study}/verify")
    assert report["copies_bad"] == 2
    lost = await anna.json("GET", "/lost")
    (one,) = lost["objects"]
    assert (one["name"], one["study_instance_uid"], one["kind"]) == (uids[0], study, "lost")
    assert lost["counts"] == {"lost": 1}


@pytest.mark.spec("ST-7")
async def test_a_protected_study_is_marked_and_cannot_be_deleted(box, anna):
    await box.take_in(images=1)
    study = (await study_of(anna))["study_instance_uid"]
    assert (await study_of(anna))["protected"] is False
    assert (await anna.json("PUT", f"/studies/{study}/protection"))["protected"]
    assert (await study_of(anna))["protected"] is True
    refused = await anna.json("DELETE", f"/studies/{study}", status=409, json={"reason": "twice"})
    assert refused["code"] == "study-protected"
    assert not (await anna.json("DELETE", f"/studies/{study}/protection"))["protected"]
    await anna.json("DELETE", f"/studies/{study}", json={"reason": "sent twice"})
    await anna.ask("PUT", "/studies/1.2.3/protection", status=404)
    trail = await anna.json("GET", "/audit?action=study-protected")
    told = [(each["who"], each["subject"], each["outcome"]) for each in trail["entries"]]
    assert told == [("anna", "1.2.3", "failure"), ("anna", study, "success")]


@pytest.mark.spec("DB-3")
async def test_a_backup_of_the_index_is_listed_and_put_into_force_while_the_box_runs(box, anna):
    await box.take_in(images=2)
    assert (await anna.json("GET", "/index"))["state"] == "open"
    await box.parts.archive.backups.make()
    await box.take_in(images=1, patient=1)  # newer than the backup
    backups = (await anna.json("GET", "/index/backups"))["backups"]
    backup = next(each for each in backups if each["objects"] == 2)
    assert backup["verified_at"]
    assert backup["studies"] == 1
    chosen = {"volume": backup["volume"], "name": backup["name"]}
    report = await anna.json("POST", "/index/restore", json=chosen)
    assert report["set_aside"]
    assert (await anna.json("GET", "/studies"))["total"] == 2
    assert (await anna.json("GET", "/index"))["restored_from"]
    await anna.ask("POST", "/index/restore", status=409, json=chosen | {"name": "nothing.db"})
    trail = await anna.json("GET", "/audit?action=index-restored")
    told = [(each["subject"], each["outcome"]) for each in trail["entries"]]
    assert told == [("nothing.db", "failure"), (backup["name"], "success")]


@pytest.mark.spec("ST-7")
async def test_looking_at_a_study_is_noted_as_reading_it(box, anna):
    uids = await box.take_in(images=1)
    study = (await study_of(anna))["study_instance_uid"]
    reads = box.parts.archive.reads
    await reads.write()
    assert (await box.parts.catalogue.study_flags([study]))[study].last_read_at is None
    await anna.ask("GET", f"/instances/{uids[0]}/frames/1/rendered")
    await reads.write()
    assert (await box.parts.catalogue.study_flags([study]))[study].last_read_at is not None


@pytest.mark.spec("ST-7", "DN-6")
async def test_retrieving_a_study_is_noted_as_reading_it(box, anna, tmp_path):
    await box.take_in(images=1)
    study = (await study_of(anna))["study_instance_uid"]
    peer = {"name": "ws", "ae_title": "WS", "host": "127.0.0.1", "port": 11112}
    await anna.json("POST", "/peers", status=201, json=peer)
    port = (await anna.json("GET", "/status"))["providers"][0]["port"]
    got = await asyncio.create_subprocess_exec(
        "/usr/bin/getscu", "-S", "-aet", "WS", "-aec", "SCRIGNO", "-od", str(tmp_path),
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}",
        "127.0.0.1", str(port),
    )  # fmt: skip
    assert await got.wait() == 0
    assert len(await asyncio.to_thread(lambda: list(tmp_path.glob("CT*")))) == 1
    await box.parts.archive.reads.write()
    assert (await box.parts.catalogue.study_flags([study]))[study].last_read_at is not None
