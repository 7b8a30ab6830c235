# SPDX-License-Identifier: Apache-2.0
"""Exports: media that other programs read, de-identified or not, fetched in parts, by whom."""

import asyncio
import io
import subprocess  # noqa: TID251 - DCMTK is the judge
import zipfile
from pathlib import Path

import pycdlib
import pydicom
import pytest
from pydicom.fileset import FileSet

PASSWORD = "due cavalli batteria corretta"


async def studies_of(anna) -> list[str]:
    rows = (await anna.json("GET", "/studies"))["rows"]
    return [row["study_instance_uid"] for row in rows]


async def exported(anna, **body):
    job = await anna.json("POST", "/exports", status=201, json=body)
    async with asyncio.timeout(60):
        while job["state"] in ("waiting", "running"):
            await asyncio.sleep(0.05)
            job = await anna.json("GET", f"/jobs/{job['id']}")
    return job


async def fetched(anna, job) -> bytes:
    assert job["state"] == "done", job
    [result] = job["results"]
    answer = await anna.ask("GET", f"/jobs/{job['id']}/results/{result['id']}")
    content = await answer.read()
    assert len(content) == result["size_bytes"]
    return content


def unpacked(content: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def medium_is_good(folder: Path, objects: int) -> list[pydicom.Dataset]:
    """Let pydicom and DCMTK read the medium; returns its objects."""
    found = FileSet(folder / "DICOMDIR")
    assert len(found) == objects
    for path in (folder / "DICOM").rglob("*"):
        assert len(path.name) <= 8
        assert path.name.upper() == path.name
    checked = subprocess.run(
        ["dcmdump", "+f", str(folder / "DICOMDIR")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "E:" not in checked.stderr
    images = [pydicom.dcmread(each.path) for each in found]
    found._stage["t"].cleanup()  # pydicom leaves a folder behind and warns
    return images


@pytest.mark.spec("AD-5")
async def test_studies_leave_as_a_medium_that_other_programs_read(box, anna, tmp_path: Path):
    await box.take_in(images=3, patient=1)
    await box.take_in(images=2, patient=0)
    studies = await studies_of(anna)
    job = await exported(anna, studies=studies)
    assert job["counts"] == {"objects": 5}
    folder = unpacked(await fetched(anna, job), tmp_path / "out")
    images = medium_is_good(folder, 5)
    assert {image.StudyInstanceUID for image in images} == set(studies)
    page = (folder / "INDEX.HTM").read_text(encoding="utf-8")
    assert "Rossi Anna Lucia" in page
    assert "<script" not in page
    assert "DICOMDIR" in (folder / "README.TXT").read_text()
    trail = await anna.json("GET", "/audit?action=export")
    assert {entry["subject"] for entry in trail["entries"]} >= set(studies)


@pytest.mark.spec("AD-5")
async def test_what_was_stored_leaves_byte_for_byte(box, anna, tmp_path: Path):
    uids = await box.take_in(images=2)
    [study] = await studies_of(anna)
    folder = unpacked(await fetched(anna, await exported(anna, studies=[study])), tmp_path / "out")
    stored = {path.read_bytes() for path in (box.root / "data" / "studies").rglob("*.dcm")}
    assert {path.read_bytes() for path in (folder / "DICOM").rglob("IM*")} == stored
    assert len(stored) == len(uids)


@pytest.mark.spec("AD-5")
async def test_an_export_is_de_identified(box, anna, tmp_path: Path):
    await box.take_in(images=2)
    [study] = await studies_of(anna)
    job = await exported(anna, studies=[study], anonymise={"shift_dates": True})
    assert "de-identified" in job["title"]
    folder = unpacked(await fetched(anna, job), tmp_path / "out")
    images = medium_is_good(folder, 2)
    assert images[0].StudyInstanceUID == images[1].StudyInstanceUID != study
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (b"Rossi", b"IT-001", study.encode(), b"20240101", b"ACC00000"):
                assert word not in content, (path, word)
    other = await exported(anna, studies=[study], anonymise={})
    again = medium_is_good(unpacked(await fetched(anna, other), tmp_path / "again"), 2)
    assert again[0].StudyInstanceUID != images[0].StudyInstanceUID


@pytest.mark.spec("AD-5")
async def test_a_disc_image_holds_the_same_medium(box, anna, tmp_path: Path):
    await box.take_in(images=2)
    job = await exported(anna, studies=await studies_of(anna), to="iso")
    path = tmp_path / "out.iso"
    path.write_bytes(await fetched(anna, job))
    disc = pycdlib.PyCdlib()
    disc.open(str(path))
    out = tmp_path / "out"
    for folder, _, names in disc.walk(joliet_path="/"):
        for name in names:
            target = out / folder.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            disc.get_file_from_iso(str(target), joliet_path=f"{folder.rstrip('/')}/{name}")
    disc.close()
    medium_is_good(out, 2)
    back = await anna.json("PATCH", "/settings",
        json={"settings": {"transfer": {"roots": [str(tmp_path)]}}})  # fmt: skip
    assert back
    job = await anna.json("POST", "/imports", status=201, json={"path": str(path)})
    async with asyncio.timeout(30):
        while (job := await anna.json("GET", f"/jobs/{job['id']}"))["state"] != "done":
            await asyncio.sleep(0.05)
    assert job["counts"] == {"duplicate": 2, "directory": 1, "refused": 2}


@pytest.mark.spec("AD-5")
async def test_a_stick_of_the_box_gets_the_medium_and_is_never_overwritten(
    box, anna, tmp_path: Path
):
    await box.take_in(images=2)
    studies = await studies_of(anna)
    stick = tmp_path / "media" / "stick"
    stick.mkdir(parents=True)
    (stick / "holiday.jpg").write_bytes(b"mine")
    settings = {"settings": {"transfer": {"roots": [str(tmp_path / "media")]}}}
    await anna.json("PATCH", "/settings", json=settings)
    job = await exported(anna, studies=studies, to="folder", path=str(stick))
    assert job["state"] == "done", job
    medium_is_good(stick, 2)
    assert (stick / "holiday.jpg").read_bytes() == b"mine"
    again = await exported(anna, studies=studies, to="folder", path=str(stick))
    assert (again["state"], again["code"]) == ("failed", "target-not-empty")
    for path in ("/etc", str(box.root / "data")):
        body = {"studies": studies, "to": "folder", "path": path}
        answer = await anna.json("POST", "/exports", status=403, json=body)
        assert answer["code"] == "place-not-allowed"


@pytest.mark.spec("AD-5")
@pytest.mark.parametrize(("kind", "magic"), [("jpeg", b"\xff\xd8"), ("png", b"\x89PNG")])
async def test_a_series_leaves_as_pictures(box, anna, kind: str, magic: bytes):
    await box.take_in(images=2, size=64)
    job = await exported(anna, studies=await studies_of(anna), pictures=kind)
    assert job["counts"] == {"objects": 2, "pictures": 2}
    with zipfile.ZipFile(io.BytesIO(await fetched(anna, job))) as archive:
        assert len(archive.namelist()) == 2
        assert all(archive.read(name).startswith(magic) for name in archive.namelist())


@pytest.mark.spec("AD-5")
async def test_a_small_export_is_sent_at_once(box, anna, tmp_path: Path):
    await box.take_in(images=2)
    [study] = await studies_of(anna)
    answer = await anna.ask("GET", f"/exports/studies.zip?study={study}")
    medium_is_good(unpacked(await answer.read(), tmp_path / "out"), 2)
    await anna.ask("GET", "/exports/studies.zip?study=1.2.3", status=404)
    answer = await anna.json("POST", "/exports", status=404, json={"studies": [study, "1.2.3"]})
    assert answer["code"] == "not-found"


@pytest.mark.spec("AD-1")
async def test_only_who_may_export_and_only_what_he_sees(box, anna):
    await box.take_in(images=1, patient=0)
    [study] = await studies_of(anna)
    await box.parts.access.add_account("bruno", PASSWORD, "user")
    made = await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
    bruno = type(anna)(box, made.token)
    job = await exported(bruno, studies=[study])
    assert job["state"] == "done"
    [result] = job["results"]
    await anna.ask("GET", f"/jobs/{job['id']}/results/{result['id']}")
    roles = await anna.json("GET", "/roles")
    assert roles
    await anna.ask("POST", "/roles", status=201, json={
        "name": "narrow", "permissions": ["view", "export"], "modalities": ["MR"],
    })  # fmt: skip
    await box.parts.access.add_account("carla", PASSWORD, "narrow")
    made = await box.parts.access.login("carla", PASSWORD, address="127.0.0.1")
    carla = type(anna)(box, made.token)
    await carla.ask("POST", "/exports", status=404, json={"studies": [study]})
    await carla.ask("GET", f"/exports/studies.zip?study={study}", status=404)
    await carla.ask("GET", f"/jobs/{job['id']}", status=404)
