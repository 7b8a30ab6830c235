# SPDX-License-Identifier: Apache-2.0
"""Imports by the API: from a stick, from archives and discs, from a browser; by whom."""

import asyncio
import hashlib
import io
import os
import zipfile
from pathlib import Path

import pycdlib
import pytest

from made_objects import write_series

PASSWORD = "due cavalli batteria corretta"
PIECE = "application/offset+octet-stream"


@pytest.fixture
async def stick(box, anna, tmp_path: Path) -> Path:
    """A folder of the box that may be imported from: six images in two folders, and a text."""
    folder = tmp_path / "media" / "stick"
    await asyncio.to_thread(write_series, folder / "a", images=2, size=16)
    await asyncio.to_thread(write_series, folder, images=4, patient=1, size=16)
    (folder / "notes.txt").write_text("nothing to see")
    await anna.json(
        "PATCH", "/settings", json={"settings": {"transfer": {"roots": [str(tmp_path / "media")]}}}
    )
    return folder


async def begin(client, **body) -> int:
    return (await client.json("POST", "/imports", status=201, json=body))["id"]


async def ended(client, job_id: int):
    async with asyncio.timeout(40):
        while (job := await client.json("GET", f"/jobs/{job_id}"))["state"] in (
            "waiting",
            "running",
        ):
            await asyncio.sleep(0.03)
    return job


async def upload(client, name: str, content: bytes, *, piece: int = 0, **more) -> str:
    body = {"name": name, "size": len(content), **more}
    made = await client.json("POST", "/uploads", status=201, json=body)
    at = 0
    while at < len(content):
        part = content[at : at + (piece or len(content))]
        headers = {"Content-Type": PIECE, "Upload-Offset": str(at)}
        answer = await client.ask(
            "PATCH", f"/uploads/{made['id']}", status=204, data=part, headers=headers
        )
        at = int(answer.headers["Upload-Offset"])
    return made["id"]


@pytest.mark.spec("AD-4")
async def test_a_stick_is_found_looked_into_and_imported(box, anna, stick: Path) -> None:
    places = await anna.json("GET", "/imports/places")
    assert [place["path"] for place in places["places"]] == [str(stick.parent)]
    listed = await anna.json("GET", "/imports/folder", params={"path": str(stick)})
    assert next(entry["name"] for entry in listed["entries"]) == "a"
    job = await ended(anna, await begin(anna, path=str(stick)))
    assert job["state"] == "done"
    assert job["counts"] == {"new": 6, "refused": 1}
    assert (job["done"], job["total"]) == (7, 7)
    again = await ended(anna, await begin(anna, path=str(stick), recursive=False))
    assert again["counts"] == {"duplicate": 4, "refused": 1}
    trail = await anna.json("GET", "/audit?action=import")
    assert len(trail["entries"]) == 2


@pytest.mark.spec("AD-4")
async def test_the_files_that_failed_come_back_as_an_archive(box, anna, stick: Path) -> None:
    job = await ended(anna, await begin(anna, path=str(stick)))
    answer = await anna.ask("GET", f"/imports/{job['id']}/failed.zip")
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert archive.read(names[0]) == b"nothing to see"
        assert "not-dicom" in archive.read("failed.txt").decode("utf-8-sig")
    (stick / "notes.txt").unlink()
    answer = await anna.ask("GET", f"/imports/{job['id']}/failed.zip")
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
        assert archive.namelist() == ["failed.txt"]


@pytest.mark.spec("AD-4")
async def test_only_allowed_folders_and_only_who_may(box, anna, stick: Path) -> None:
    for path in ("/etc", f"{stick}/../..", str(box.root / "data"), "relative"):
        answer = await anna.json("POST", "/imports", status=403 if path[0] == "/" else 400,
                                 json={"path": path})  # fmt: skip
        assert answer["code"] in ("place-not-allowed", "bad-body")
    await anna.ask("GET", "/imports/folder", params={"path": "/etc"}, status=403)
    missing = await ended_or_refused(anna, str(stick / "nowhere"))
    assert missing == "source-gone"


async def ended_or_refused(client, path: str) -> str:
    return (await ended(client, await begin(client, path=path)))["code"]


def zip_of(folder: Path) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target.getvalue()


def iso_of(folder: Path) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=1, joliet=3)
    iso.add_directory("/DICOM", joliet_path="/DICOM")
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        name = f"/DICOM/IM{number}"
        iso.add_file(str(path), f"{name}.;1", joliet_path=name)
    target = io.BytesIO()
    iso.write_fp(target)
    iso.close()
    return target.getvalue()


@pytest.mark.spec("AD-4")
async def test_archives_and_discs_are_imported_from_a_stick_and_from_a_browser(
    box, anna, stick: Path
) -> None:
    zipped, disc = zip_of(stick), await asyncio.to_thread(iso_of, stick)
    (stick.parent / "all.bin").write_bytes(zipped)
    (stick.parent / "disc.bin").write_bytes(disc)
    first = await ended(anna, await begin(anna, path=str(stick.parent / "all.bin")))
    assert first["counts"] == {"new": 6, "refused": 1}
    second = await ended(anna, await begin(anna, path=str(stick.parent / "disc.bin")))
    assert second["counts"] == {"duplicate": 6}
    ids = [
        await upload(
            anna, "all.zip", zipped, piece=1000, sha256=hashlib.sha256(zipped).hexdigest()
        ),
        await upload(anna, "disc.iso", disc),
        await upload(anna, "one.dcm", next(stick.glob("*.dcm")).read_bytes()),
    ]
    third = await ended(anna, await begin(anna, uploads=ids))
    assert third["counts"] == {"duplicate": 13, "refused": 1}
    items = await anna.json("GET", f"/jobs/{third['id']}/items")
    assert [item["name"] for item in items["items"]] == ["all.zip/notes.txt"]
    answer = await anna.ask("GET", f"/imports/{third['id']}/failed.zip")
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
        assert archive.read(archive.namelist()[0]) == b"nothing to see"


@pytest.mark.spec("AD-4")
async def test_a_folder_chosen_in_a_browser_is_one_import_and_leaves_nothing_behind(
    box, anna, stick: Path
) -> None:
    for path in stick.rglob("*.dcm"):
        name = str(path.relative_to(stick.parent))
        await upload(anna, name, path.read_bytes(), batch="folder-1")
    assert len((await anna.json("GET", "/uploads?batch=folder-1"))["uploads"]) == 6
    job = await ended(anna, await begin(anna, batch="folder-1"))
    assert job["counts"] == {"new": 6}
    assert (await anna.json("GET", "/uploads"))["uploads"] == []
    assert list((box.root / "staging" / "uploads").iterdir()) == []


@pytest.mark.spec("AD-4")
async def test_an_upload_goes_on_where_it_stopped(box, anna) -> None:
    content = os.urandom(300_000)
    body = {"name": "b", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    made = await anna.json("POST", "/uploads", status=201, json=body)
    path = f"/uploads/{made['id']}"
    headers = {"Content-Type": PIECE, "Upload-Offset": "0"}
    await anna.ask("PATCH", path, status=204, data=content[:100_000], headers=headers)
    wrong = await anna.json("PATCH", path, status=409, data=b"x", headers=headers)
    assert wrong["code"] == "upload-conflict"
    head = await anna.ask("HEAD", path)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("100000", "300000")
    refused = await anna.json("POST", "/imports", status=422, json={"uploads": [made["id"]]})
    assert refused["code"] == "source-refused"
    headers["Upload-Offset"] = "100000"
    await anna.ask("PATCH", path, status=204, data=content[100_000:], headers=headers)
    assert (await anna.json("GET", path))["complete"]


@pytest.mark.spec("AD-4")
async def test_an_upload_that_arrives_damaged_or_too_long_is_refused(box, anna) -> None:
    body = {"name": "a", "size": 10, "sha256": "0" * 64}
    made = await anna.json("POST", "/uploads", status=201, json=body)
    headers = {"Content-Type": PIECE, "Upload-Offset": "0"}
    path = f"/uploads/{made['id']}"
    answer = await anna.json("PATCH", path, status=422, data=b"x" * 10, headers=headers)
    assert answer["code"] == "upload-damaged"
    await anna.ask("GET", path, status=404)
    made = await anna.json("POST", "/uploads", status=201, json={"name": "a", "size": 10})
    path = f"/uploads/{made['id']}"
    answer = await anna.json("PATCH", path, status=409, data=b"x" * 11, headers=headers)
    assert answer["code"] == "upload-conflict"
    plain = {"Content-Type": "text/plain", "Upload-Offset": "0"}
    await anna.ask("PATCH", path, status=400, data=b"x", headers=plain)
    await anna.ask("PATCH", path, status=422, data=b"x", headers={"Content-Type": PIECE})


@pytest.mark.spec("AD-1")
async def test_the_uploads_of_others_are_not_there(box, anna) -> None:
    await box.parts.access.add_account("bruno", PASSWORD, "user")
    made = await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
    bruno = type(anna)(box, made.token)
    hers = await upload(anna, "a.dcm", b"x" * 100)
    headers = {"Content-Type": PIECE, "Upload-Offset": "0"}
    await bruno.ask("GET", f"/uploads/{hers}", status=404)
    await bruno.ask("DELETE", f"/uploads/{hers}", status=404)
    await bruno.ask("PATCH", f"/uploads/{hers}", status=404, data=b"x", headers=headers)
    answer = await bruno.json("POST", "/imports", status=404, json={"uploads": [hers]})
    assert answer["code"] == "unknown-upload"


async def test_uploads_have_a_space_of_their_own(box, anna) -> None:
    answer = await anna.json("POST", "/uploads", status=507, json={"name": "a", "size": 21 << 30})
    assert answer["code"] == "uploads-full"
