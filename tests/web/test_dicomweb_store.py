# SPDX-License-Identifier: Apache-2.0
"""STOW-RS (PS3.18 section 10.5) at the running box: what is answered as stored is durable."""

import asyncio
import gzip
import io
import json
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from made_objects import write_series
from scrigno.web.dicomweb import native_xml

pytestmark = pytest.mark.spec("IN-5")

DICOM = 'multipart/related; type="application/dicom"; boundary=xx'


def files(box: Any, images: int = 2, patient: int = 0) -> list[bytes]:
    folder = box.root / f"outgoing-{patient}-{images}"
    return [path.read_bytes() for path in
            write_series(folder, images=images, patient=patient).values()]  # fmt: skip


def body(*contents: bytes, media: str = "application/dicom", end: bytes = b"--\r\n") -> bytes:
    head = f"Content-Type: {media}\r\n\r\n".encode()
    return b"".join(b"--xx\r\n" + head + each + b"\r\n" for each in contents) + b"--xx" + end


async def post(
    client: Any, content: Any, media: str = DICOM, *, status: int, path: str = "", **headers: str
) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": media, **named}
    url = f"{client.box.url}/dicom-web/studies{path}"
    async with client.box.http.post(url, data=content, headers=headers) as answer:
        assert answer.status == status, (answer.status, await answer.text())
        return await answer.json(content_type=None)


def reasons(answer: Any) -> list[int]:
    found = [
        each for tag in ("00081198", "0008119A") for each in answer.get(tag, {}).get("Value", [])
    ]
    return [each["00081197"]["Value"][0] for each in found]


def stored(box: Any) -> list[bytes]:
    return sorted(path.read_bytes() for path in (box.root / "data" / "studies").rglob("*.dcm"))


async def test_what_is_answered_as_stored_stands_on_every_volume(box: Any, anna: Any) -> None:
    sent = files(box, images=3)
    answer = await post(anna, body(*sent), status=200)
    references = answer["00081199"]["Value"]
    assert len(references) == 3
    assert "00081198" not in answer
    uids = {pydicom.dcmread(io.BytesIO(each)).SOPInstanceUID for each in sent}
    assert {each["00081155"]["Value"][0] for each in references} == uids
    for folder in ("data", "backup1"):
        while folder == "backup1" and any((await box.parts.catalogue.debt_counts()).values()):
            await asyncio.sleep(0.1)  # paid after the answer: staging is the second device here
        kept = {pydicom.dcmread(path).SOPInstanceUID
                for path in (box.root / folder / "studies").rglob("*.dcm")}  # fmt: skip
        assert kept == uids
    url = references[0]["00081190"]["Value"][0]
    headers = {"Authorization": f"Bearer {anna.token}"}
    async with box.http.get(url, headers=headers) as found:
        assert found.status == 200
    again = await post(anna, body(*sent), status=200)
    assert len(again["00081199"]["Value"]) == 3


async def test_a_file_alone_and_an_answer_in_xml(box: Any, anna: Any) -> None:
    [first, second] = files(box)
    await post(anna, first, "application/dicom", status=200)
    headers = {"Authorization": f"Bearer {anna.token}", "Content-Type": "application/dicom",
               "Accept": "application/dicom+xml"}  # fmt: skip
    url = f"{box.url}/dicom-web/studies"
    async with box.http.post(url, data=second, headers=headers) as answer:
        assert answer.status == 200
        assert b'tag="00081199" vr="SQ"' in await answer.read()


async def test_other_bytes_under_a_known_uid_are_kept_aside_and_told(box: Any, anna: Any) -> None:
    [first, _] = files(box)
    await post(anna, body(first), status=200)
    other = pydicom.dcmread(io.BytesIO(first))
    other.PatientComments = "other"
    buffer = io.BytesIO()
    other.save_as(buffer)
    answer = await post(anna, body(buffer.getvalue()), status=202)
    assert answer["00081199"]["Value"][0]["00081196"]["Value"] == [0xB000]


async def test_what_is_no_object_fails_alone(box: Any, anna: Any) -> None:
    [first, second] = files(box)
    answer = await post(anna, body(first, b"no dicom at all", second), status=202)
    assert len(answer["00081199"]["Value"]) == 2
    assert reasons(answer) == [0xC000]
    answer = await post(anna, body(b"no dicom at all"), status=409)
    assert reasons(answer) == [0xC000]


async def test_an_object_of_another_study_is_refused(box: Any, anna: Any) -> None:
    [first, second] = files(box)
    study = pydicom.dcmread(io.BytesIO(first)).StudyInstanceUID
    answer = await post(anna, body(first), status=409, path="/1.2.3.4")
    assert reasons(answer) == [0xC409]
    assert not stored(box)
    await post(anna, body(first, second), status=200, path=f"/{study}")


BAD = [
    (b"", DICOM, 400),
    (b"--xx--\r\n", DICOM, 400),
    (b"nothing here", DICOM, 400),
    (body(b"x"), 'multipart/related; type="application/dicom"', 400),  # no boundary
    (body(b"x"), "text/plain", 415),
    (body(b"x"), "multipart/form-data; boundary=xx", 415),
    (body(b"x"), 'multipart/related; type="image/jpeg"; boundary=xx', 415),
    (body(b"x", media="image/jpeg"), DICOM, 415),
    (body(b"x", media="multipart/mixed; boundary=yy"), DICOM, 415),
    (b"--xx\r\nContent-Type: application/dicom\r\nContent-Encoding: gzip\r\n\r\n"
     + gzip.compress(bytes(1 << 20)) + b"\r\n--xx--\r\n", DICOM, 415),
]  # fmt: skip


async def test_bodies_that_are_not_taken_leave_nothing(box: Any, anna: Any) -> None:
    for content, media, status in BAD:
        await post(anna, content, media, status=status)
    # a packed body is refused before it is unpacked
    bomb = gzip.compress(bytes(16 << 20))
    await post(anna, bomb, status=415, Content_Encoding="gzip")
    assert not stored(box)


async def test_a_body_that_ends_inside_an_object_stores_nothing_of_it(box: Any, anna: Any) -> None:
    [first, second] = files(box)
    for cut in (1, 100, 5000):
        content = body(first, second)[: -len(b"\r\n--xx--\r\n") - cut]
        await post(anna, content, status=400)
        assert len(stored(box)) == 1  # the one before it came to its end
    whole_but_for_the_end = body(first, second, end=b"")
    await post(anna, whole_but_for_the_end[: -len(b"--xx")], status=400)
    assert len(stored(box)) == 1


async def test_a_client_that_leaves_inside_an_object_leaves_nothing(box: Any, anna: Any) -> None:
    [first, _] = files(box)
    content = body(first)
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {anna.token}\r\n"
        f"Content-Type: {DICOM}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", box.parts.web_ports[0])
    writer.write(head.encode() + content[: len(content) // 2])
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.3)
    assert not stored(box)
    journal = box.root / "staging" / "objects" / "journal"
    assert not list(journal.iterdir())


async def test_no_room_is_507_and_a_limit_of_studies_409(box: Any, anna: Any) -> None:
    await anna.json("PATCH", "/settings", json={"settings": {"limits": {"max_studies": 1}}})
    await post(anna, body(*files(box, images=1)), status=200)
    answer = await post(anna, body(*files(box, images=1, patient=1)), status=409)
    assert reasons(answer) == [0xA700]


async def test_an_object_larger_than_the_settings_allow(box: Any, anna: Any) -> None:
    await anna.json(
        "PATCH", "/settings", json={"settings": {"ingest": {"max_object_bytes": 1 << 20}}},
    )  # fmt: skip
    large = io.BytesIO(body(files(box, images=1)[0] + bytes(2 << 20)))
    answer = await post(anna, large, status=413)
    assert reasons(answer) == [0xA700]
    assert not stored(box)


def described(content: bytes) -> tuple[dict[str, Any], bytes]:
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.SOPInstanceUID = generate_uid()
    pixels = dataset.PixelData
    found = dataset.to_json_dict(
        bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "bulk/1"
    )
    return found, pixels


async def test_metadata_and_bulk_data_become_an_object(box: Any, anna: Any) -> None:
    [first, _] = files(box)
    for count, kind in enumerate(("json", "xml")):
        await composed(box, anna, first, kind, count)


async def composed(box: Any, anna: Any, first: bytes, kind: str, before: int) -> None:
    dataset, pixels = described(first)
    media = f"application/dicom+{kind}"
    text = native_xml.document(dataset) if kind == "xml" else json.dumps([dataset]).encode()
    content = (
        f"--xx\r\nContent-Type: {media}\r\n\r\n".encode() + text
        + b"\r\n--xx\r\nContent-Type: application/octet-stream\r\nContent-Location: bulk/1\r\n\r\n"
        + pixels + b"\r\n--xx--\r\n"
    )  # fmt: skip
    multipart = f'multipart/related; type="{media}"; boundary=xx'
    answer = await post(anna, content, multipart, status=200)
    uid = answer["00081199"]["Value"][0]["00081155"]["Value"][0]
    assert uid == dataset["00080018"]["Value"][0]
    [kept] = [each for each in (pydicom.dcmread(io.BytesIO(one)) for one in stored(box))
              if each.SOPInstanceUID == uid]  # fmt: skip
    assert kept.PixelData == pixels
    assert kept.PatientName == pydicom.dcmread(io.BytesIO(first)).PatientName
    assert kept.RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS0"
    without = content.replace(b"Content-Location: bulk/1", b"Content-Location: bulk/2")
    await post(anna, without, multipart, status=409)
    assert len(stored(box)) == before + 1


async def test_many_objects_in_one_request_and_several_senders(box: Any, anna: Any) -> None:
    requests = [body(*files(box, images=40, patient=number)) for number in range(3)]
    answers = await asyncio.gather(*(post(anna, each, status=200) for each in requests))
    assert sum(len(each["00081199"]["Value"]) for each in answers) == 120
    assert (await box.parts.catalogue.totals()).instances == 120
    lines = (await anna.json("GET", "/audit?limit=100"))["entries"]
    imports = [each for each in lines if each["action"] == "import"]
    assert [each["details"]["objects"] for each in imports] == ["40", "40", "40"]
