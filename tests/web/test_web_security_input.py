# SPDX-License-Identifier: Apache-2.0
"""Hostile bodies, texts and log-ins; and the known holes of other archives, tried on this one."""

import asyncio
import csv
import gzip
import io
import json
import time
import zlib
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import JPEG2000Lossless, generate_uid

from made_objects import ct_series, write_series
from scrigno.web.audit_api import harmless

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.spec("AD-7")]

USER, PASSWORD = "anna", "corretto cavallo batteria"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def anna(claimed):
    return claimed


@pytest.fixture
def box(claimed, _proc_may_be_read):
    return claimed.box


def tree_of(root: Path) -> set[str]:
    """Return everything outside the box's own folders."""
    own = {"state", "staging", "data", "backup1"}
    return {str(p) for p in root.rglob("*") if p.relative_to(root).parts[0] not in own}


async def problem(answer) -> tuple[int, str]:
    return answer.status, (await answer.json(content_type=None))["code"]


# bodies -------------------------------------------------------------------------------------------


async def test_a_deeply_nested_body_is_refused_at_once(box, anna):
    headers = {"Authorization": f"Bearer {anna.token}", "Content-Type": "application/json"}
    too_deep = '{"settings":' + '{"a":' * 40 + "1" + "}" * 41  # no parser would mind this one
    async with box.http.patch(box.api("/settings"), data=too_deep, headers=headers) as answer:
        assert await problem(answer) == (400, "bad-body")
        assert "more than 32 deep" in (await answer.json(content_type=None))["detail"]
    for text in (
        "[" * 30_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        '{"settings":' + "[" * 50_000,
    ):
        began = time.monotonic()
        async with box.http.patch(box.api("/settings"), data=text, headers=headers) as answer:
            assert await problem(answer) == (400, "bad-body")
        assert time.monotonic() - began < 5


async def test_a_number_of_a_million_digits_and_a_million_keys_are_refused_at_once(box, anna):
    headers = {"Authorization": f"Bearer {anna.token}", "Content-Type": "application/json"}
    many = ",".join(f'"k{n}":1' for n in range(50_000))
    for text in ('{"search": ' + "9" * 60_000 + "}", "{" + many + "}", '{"search": 1e999999}'):
        began = time.monotonic()
        async with box.http.post(box.api("/studies/search"), data=text, headers=headers) as answer:
            assert answer.status in {400, 413}
        assert time.monotonic() - began < 5


async def test_a_body_over_its_cap_is_refused_whether_it_says_so_or_not(box, anna):
    headers = {"Authorization": f"Bearer {anna.token}", "Content-Type": "application/json"}

    async def chunks():
        for _ in range(1000):
            yield b"x" * 65536

    async with box.http.post(box.api("/login"), data=b"x" * 100_000, headers=headers) as answer:
        assert await problem(answer) == (413, "body-too-large")
    async with box.http.post(box.api("/login"), data=chunks(), headers=headers) as answer:
        assert await problem(answer) == (413, "body-too-large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_cut_off_and_costs_no_memory(box, anna, encoding):
    zeros = b"\0" * (64 << 20)
    bomb = gzip.compress(zeros) if encoding == "gzip" else zlib.compress(zeros)
    headers = {
        "Authorization": f"Bearer {anna.token}",
        "Content-Type": "application/json",
        "Content-Encoding": encoding,
    }
    del zeros
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        async with box.http.post(box.api("/login"), data=bomb, headers=headers) as answer:
            assert answer.status in {400, 413, 415}
    assert psutil.Process().memory_info().rss - before < 60 << 20


async def test_a_slow_body_is_ended(box, monkeypatch):
    monkeypatch.setattr("scrigno.web.bodies.WHOLE_BODY_S", 0.5)

    async def drips():
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.1)

    headers = {"Content-Type": "application/json"}
    async with box.http.post(box.api("/login"), data=drips(), headers=headers) as answer:
        assert await problem(answer) == (408, "body-too-slow")


# log-ins ------------------------------------------------------------------------------------------


async def test_a_token_that_was_there_before_the_log_in_is_not_taken_over(box, anna):
    body = {"user": USER, "password": PASSWORD, "cookie": True}
    planted = "planted-by-somebody-else-0123456789abcdefghij"
    headers = {"Cookie": f"scrigno-session={planted}"}
    async with box.http.post(box.api("/login"), json=body, headers=headers) as answer:
        first = answer.cookies["scrigno-session"].value
    assert first != planted
    box.http.cookie_jar.clear()
    headers = {"Cookie": f"scrigno-session={first}"}
    async with box.http.post(box.api("/login"), json=body, headers=headers) as answer:
        second = answer.cookies["scrigno-session"].value
    assert second != first
    box.http.cookie_jar.clear()
    async with box.http.get(box.api("/status"), headers=headers) as answer:
        assert answer.status == 401  # the one before the log-in is over
    live = {"Cookie": f"scrigno-session={second}"}
    async with box.http.post(box.api("/logout"), headers=live) as answer:
        assert answer.status == 204
    box.http.cookie_jar.clear()
    async with box.http.get(box.api("/status"), headers=live) as answer:
        assert answer.status == 401


async def test_nothing_tells_whether_an_account_exists(box, anna):
    """Same words, same status, same headers, and about the same time."""
    seconds: dict[str, list[float]] = {USER: [], "nobody at all": []}
    said = {}
    for _ in range(6):
        for user in seconds:
            box.parts.access.entrance._pair._failures.clear()
            box.parts.access.entrance._address._failures.clear()
            box.parts.access.entrance._account._failures.clear()
            began = time.perf_counter()
            body = {"user": user, "password": "not the one of anybody"}
            async with box.http.post(box.api("/login"), json=body) as answer:
                found = await answer.json(content_type=None)
                found.pop("request_id")
                said[user] = (answer.status, found, sorted(answer.headers))
            seconds[user].append(time.perf_counter() - began)
    assert said[USER] == said["nobody at all"]
    known, unknown = (min(each) for each in seconds.values())  # the least is free of others' load
    assert 0.25 < known / unknown < 4, seconds


async def test_guessing_costs_more_and_more_time_from_one_address(box, anna):
    entrance = box.parts.access.entrance
    for each in (entrance._pair, entrance._address, entrance._account):
        each._failures.clear()
    found = []
    for number in range(30):
        body = {"user": f"guess{number}", "password": "not the one"}
        async with box.http.post(box.api("/login"), json=body) as answer:
            found.append(answer.status)
    assert found[0] == 401
    assert found[-1] == 429  # another name each time does not help
    async with box.http.post(box.api("/login"), json={"user": USER, "password": "x y z"}) as answer:
        assert answer.status in {401, 429}
    # who has logged in from here before is not locked out by a stranger's guesses
    async with box.http.post(
        box.api("/login"), json={"user": "bruno", "password": PASSWORD}
    ) as answer:
        assert answer.status in {401, 429}
    for each in (entrance._pair, entrance._address, entrance._account):
        each._failures.clear()


async def test_a_flood_of_guesses_does_not_fill_the_trail(box, anna):
    body = {"user": "flood", "password": "x"}
    for _ in range(60):
        async with box.http.post(box.api("/login"), json=body) as answer:
            last = answer.status
    assert last == 429
    lines = await box.parts.audit.entries(limit=1000, action="login", outcome="failure")
    fast = [each for each in lines if each.details["code"] == "too-many-attempts"]
    assert len(fast) == 1
    assert "flood" not in str(lines)  # a name that was typed may be a password


# texts of DICOM objects ---------------------------------------------------------------------------


def _hostile_study(folder: Path) -> Path:
    (path,) = write_series(folder, images=1, patient=2, size=16).values()
    made = pydicom.dcmread(path)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = "<b>Evil^</script><script>alert(2)</script>"  # = would begin a group
    made.PatientID = "'\"><svg/onload=alert(3)>"
    made.StudyDescription = "{{7*7}}${7*7}<b>"
    made.SeriesDescription = EVIL
    made.AccessionNumber = "=1+2"
    made.InstitutionName = "javascript:alert(4)"
    made.StudyInstanceUID = generate_uid()
    made.save_as(path)
    return path


async def test_texts_of_objects_are_data_in_every_answer(box, anna):
    path = await asyncio.to_thread(_hostile_study, box.root / "hostile")
    report = await box.parts.importer.import_paths([path])
    assert report.new == 1
    page = await anna.ask("POST", "/studies/search", json={"search": ""})
    assert page.content_type == "application/json"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    rows = (await page.json())["rows"]
    names = [row["patient_name"]["alphabetic"] for row in rows]
    assert "<b>Evil^</script><script>alert(2)</script>" in names  # kept as it is, and only data
    for query in ("/dicom-web/studies", "/dicom-web/studies?includefield=all"):
        headers = {"Authorization": f"Bearer {anna.token}", "Accept": "application/dicom+json"}
        async with box.http.get(box.url + query, headers=headers) as answer:
            assert answer.content_type in {"application/dicom+json", "application/json"}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in (EVIL, "%3Cscript%3Ealert(1)%3C/script%3E", '"><script>'):
        async with box.http.get(f"{box.url}/viewer/{name}") as answer:
            assert answer.status == 404
            assert "html" not in answer.content_type
            assert "<script>" not in await answer.text()


async def test_uids_that_are_paths_write_and_read_nothing_outside(box, anna):
    before = await asyncio.to_thread(tree_of, box.root)

    def make(folder: Path) -> list[Path]:
        folder.mkdir()
        paths = []
        for number, uid in enumerate(
            ("../../../evil", "/etc/evil", "1.2/../../3", "1.2\x003", "1" * 65, "1.2.é")
        ):
            (_, data_set), *_ = ct_series(images=1, patient=3, size=16)
            data_set.StudyInstanceUID = uid if number % 2 else generate_uid()
            data_set.SeriesInstanceUID = uid
            data_set.SOPInstanceUID = uid
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            meta.MediaStorageSOPClassUID = data_set.SOPClassUID
            meta.MediaStorageSOPInstanceUID = generate_uid()
            data_set.file_meta = meta
            path = folder / f"{number}.dcm"
            data_set.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    with pydicom.config.disable_value_validation():
        paths = await asyncio.to_thread(make, box.root / "paths")
    await box.parts.importer.import_paths(paths)
    after = await asyncio.to_thread(tree_of, box.root)
    assert {each for each in after - before if "/paths" not in each} == set()
    assert not Path("/etc/evil").exists()
    for uid in ("..%2f..%2fevil", "1.2%2f3", "%2fetc%2fpasswd", "1" * 65):
        for door in (f"/viewer/api/studies/{uid}", f"/dicom-web/studies/{uid}/metadata"):
            headers = {"Authorization": f"Bearer {anna.token}"}
            async with box.http.get(box.url + door, headers=headers) as answer:
                assert answer.status in {400, 404}, door


async def test_a_picture_that_claims_to_be_huge_is_refused_and_the_box_goes_on(box, anna):
    """JPEG 2000 whose header promises 65535 x 65535; Rows and Columns that hide more pixels."""

    def make(folder: Path) -> Path:
        (path,) = write_series(folder, images=1, patient=1, size=16).values()
        made = pydicom.dcmread(path)
        made.Rows = made.Columns = 65535
        made.NumberOfFrames = 65535
        made.file_meta.TransferSyntaxUID = JPEG2000Lossless
        size = (0x29).to_bytes(2, "big") + b"\0\0" + (65535).to_bytes(4, "big") * 2
        size += (0).to_bytes(4, "big") * 2 + (65535).to_bytes(4, "big") * 2
        size += (0).to_bytes(4, "big") * 2 + (1).to_bytes(2, "big") + b"\x0f\x01\x01"
        stream = b"\xff\x4f\xff\x51" + size + b"\xff\xd9"
        made.PixelData = pydicom.encaps.encapsulate([stream])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.save_as(path)
        return path

    path = await asyncio.to_thread(make, box.root / "huge")
    await box.parts.importer.import_paths([path])
    uid = await asyncio.to_thread(lambda: pydicom.dcmread(path).SOPInstanceUID)
    before = psutil.Process().memory_info().rss
    answer = await box.http.get(
        box.api(f"/instances/{uid}/frames/1/rendered"),
        headers={"Authorization": f"Bearer {anna.token}"},
    )
    assert answer.status in {404, 413, 422, 503, 504}
    assert psutil.Process().memory_info().rss - before < 100 << 20
    await anna.ask("GET", "/status")


async def test_a_program_before_the_preamble_is_never_served_as_one(box, anna):
    """CVE-2019-11687: a file that is DICOM and an executable at once."""

    def make(folder: Path) -> tuple[Path, str]:
        (item,) = write_series(folder, images=1, patient=0, size=16).items()
        uid, path = item
        content = bytearray(path.read_bytes())
        content[:4] = b"MZ\x90\x00"
        path.write_bytes(content)
        return path, uid

    path, uid = await asyncio.to_thread(make, box.root / "polyglot")
    await box.parts.importer.import_paths([path])
    found = await box.parts.catalogue.instance(uid)
    door = (
        f"/dicom-web/studies/{found.study_instance_uid}/series/{found.series_instance_uid}"
        f"/instances/{uid}"
    )
    headers = {
        "Authorization": f"Bearer {anna.token}",
        "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*',
    }
    async with box.http.get(box.url + door, headers=headers) as answer:
        assert answer.status == 200
        body = await answer.read()
        assert b"DICM" in body
        assert b"MZ\x90\x00" not in body
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


# files that people open elsewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    "cell", ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", '=HYPERLINK("x")']
)
async def test_no_cell_of_an_export_is_a_formula(cell):
    assert harmless(cell).startswith("'")
    assert harmless("1.2.840") == "1.2.840"
    assert harmless("anna") == "anna"


async def test_the_export_of_the_trail_is_whole_and_harmless(box, anna):
    box.parts.audit.record("=cmd|' /C calc'!A0", "@evil", "-1", details={"a": 'b\r\n=c,"d"'})
    answer = await anna.ask("GET", "/audit/export?format=csv")
    text = (await answer.read()).decode("utf-8-sig")
    assert answer.content_type == "text/csv"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(text)))
    (line,) = [row for row in rows if "calc" in row["who"]]
    assert line["who"].startswith("'=")
    assert line["action"] == "'@evil"
    assert line["subject"] == "'-1"
    assert "\n" not in line["details"]
    lines = await anna.json("GET", "/audit?limit=1000")
    assert len(rows) >= len(lines["entries"]) - 2
    jsonl = await (await anna.ask("GET", "/audit/export?format=jsonl")).text()
    assert all("who" in json.loads(each) for each in jsonl.splitlines())
    xml = await (await anna.ask("GET", "/audit/export?format=dicom")).text()
    assert xml.count("<AuditMessage>") >= len(rows)
