# SPDX-License-Identifier: Apache-2.0
"""WADO-RS and WADO-URI at the running box: whole, in parts, as pictures, and for whom."""

import asyncio
import io
import json
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from scrigno.access.permissions import Permission
from scrigno.access.sessions import Kind
from scrigno.core.sight import Sight

pytestmark = [pytest.mark.spec("IN-5"), pytest.mark.asyncio(loop_scope="module")]

EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    def parts(self) -> list[Any]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        return list(BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts())

    def contents(self) -> list[bytes]:
        """Return the bodies of the parts, byte for byte."""
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        pieces = self.body.split(b"\r\n--" + boundary)
        assert pieces[-1] == b"--\r\n"
        return [each.partition(b"\r\n\r\n")[2] for each in pieces[1:-1]]


async def get(client: Any, path: str, *, status: int = 200, **headers: str) -> Answer:
    url = path if path.startswith("http") else f"{client.box.url}{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"Authorization": f"Bearer {client.token}", **named}
    async with client.box.http.get(url, headers=headers) as answer:
        body = await answer.read()
        assert answer.status == status, (path, answer.status, body[:500])
        return Answer(answer.status, answer.headers, body)


async def study_of(client: Any, number: int) -> str:
    found = await (
        await client.box.http.get(
            f"{client.box.url}/dicom-web/studies?orderby=StudyDate",
            headers={"Authorization": f"Bearer {client.token}"},
        )
    ).json(content_type=None)
    return f"/dicom-web/studies/{found[number]['0020000D']['Value'][0]}"


async def instance_of(client: Any, number: int = 2, place: int = 0) -> tuple[str, Any]:
    study = await study_of(client, number)
    url = f"{client.box.url}{study}/metadata"
    answer = await get(client, url)
    found = json.loads(answer.body)[place]
    uid = found["00080018"]["Value"][0]
    return f"{study}/series/{found['0020000E']['Value'][0]}/instances/{uid}", found


async def stored_file(client: Any, path: str) -> bytes:
    uid = path.rpartition("/")[2]
    instance = await client.box.parts.catalogue.instance(uid)
    file = client.box.root / "data" / instance.key
    return await asyncio.to_thread(file.read_bytes)


async def test_a_study_leaves_byte_for_byte_with_its_length_announced(archive: Any) -> None:
    study = await study_of(archive, 3)
    everything = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = await get(archive, study, Accept=everything)
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    contents = answer.contents()
    assert len(contents) == 4
    for part, content in zip(answer.parts(), contents, strict=True):
        assert (
            part["Content-Type"].replace('"', "")
            == f"application/dicom; transfer-syntax={EXPLICIT}"
        )
        assert content == await stored_file(archive, part["Content-Location"])


async def test_objects_in_another_transfer_syntax_as_a_file_and_as_zip(archive: Any) -> None:
    path, _ = await instance_of(archive)
    asked = f"application/dicom; transfer-syntax={BIG_ENDIAN}"
    other = pydicom.dcmread(io.BytesIO((await get(archive, path, Accept=asked)).body))
    assert other.file_meta.TransferSyntaxUID == BIG_ENDIAN
    stored = pydicom.dcmread(io.BytesIO(await stored_file(archive, path)))
    assert np.array_equal(other.pixel_array, stored.pixel_array)
    packed = await get(archive, path.partition("/series/")[0], Accept="application/zip")
    with zipfile.ZipFile(io.BytesIO(packed.body)) as file:
        assert file.testzip() is None
        assert len(file.namelist()) == 3
    jpeg = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50"
    await get(archive, path, status=406, Accept=jpeg)


async def test_frames_alone_and_in_parts(archive: Any) -> None:
    path, _ = await instance_of(archive)
    pixels = pydicom.dcmread(io.BytesIO(await stored_file(archive, path))).PixelData
    answer = await get(archive, f"{path}/frames/1")
    assert answer.contents() == [pixels]
    [part] = answer.parts()
    assert (
        part["Content-Type"].replace('"', "")
        == f"application/octet-stream; transfer-syntax={EXPLICIT}"
    )
    alone = await get(archive, f"{path}/frames/1", Accept="application/octet-stream")
    assert alone.body == pixels
    piece = await get(
        archive, f"{path}/frames/1", status=206, Accept="application/octet-stream",
        Range="bytes=100-199",
    )  # fmt: skip
    assert piece.body == pixels[100:200]
    await get(archive, f"{path}/frames/2", status=404)
    for wrong in ("0", "x", "1,,2", "-1"):
        await get(archive, f"{path}/frames/{wrong}", status=400)
    made = await get(
        archive, f"{path}/frames/1",
        Accept="image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90",
    )  # fmt: skip
    assert np.asarray(Image.open(io.BytesIO(made.body))).astype("<u2").tobytes() == pixels


async def test_bulk_data_by_the_addresses_of_the_metadata_whole_and_by_range(
    archive: Any,
) -> None:
    path, metadata = await instance_of(archive)
    stored = pydicom.dcmread(io.BytesIO(await stored_file(archive, path)))
    uri = metadata["7FE00010"]["BulkDataURI"]
    assert (await get(archive, uri)).contents() == [stored.PixelData]
    alone = await get(archive, uri, Accept="application/octet-stream", Range="bytes=-10",
                      status=206)  # fmt: skip
    assert alone.body == stored.PixelData[-10:]
    size = len(stored.PixelData)
    assert alone.headers["Content-Range"] == f"bytes {size - 10}-{size - 1}/{size}"
    piece = await get(archive, uri, Range="bytes=10-19", status=206)
    assert piece.contents() == [stored.PixelData[10:20]]
    await get(archive, uri, Range=f"bytes={size}-", status=416)
    await get(archive, f"{path}/bulkdata/00190010", status=404)
    await get(archive, f"{path}/bulkdata/../../x", status=404)


async def test_metadata_hold_every_attribute_of_the_object(archive: Any) -> None:
    path, metadata = await instance_of(archive)
    stored = pydicom.dcmread(io.BytesIO(await stored_file(archive, path)))
    tags = {f"{element.tag:08X}" for element in stored}
    assert tags <= metadata.keys()
    assert metadata.keys() - tags == {"00083002"}
    again = pydicom.Dataset.from_json(metadata, lambda *_: stored.PixelData)
    assert again.PatientName == stored.PatientName
    assert again.ImagePositionPatient == stored.ImagePositionPatient
    xml = await get(archive, f"{path}/metadata",
                    Accept='multipart/related; type="application/dicom+xml"')  # fmt: skip
    assert b'<BulkData uri="http' in xml.body


async def test_what_did_not_change_is_not_sent_again(archive: Any) -> None:
    path, _ = await instance_of(archive)
    for each in (path, f"{path}/frames/1", f"{path}/metadata", f"{path}/rendered",
                 f"{path}/bulkdata/7FE00010", path.partition("/series/")[0],
                 f"{path.partition('/series/')[0]}/thumbnail"):  # fmt: skip
        answer = await get(archive, each)
        etag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "private, no-cache"
        same = await get(archive, each, status=304, If_None_Match=f'"x", {etag}')
        assert not same.body


async def test_pictures_at_every_level(archive: Any) -> None:
    path, _ = await instance_of(archive)
    series = path.partition("/instances/")[0]
    study = path.partition("/series/")[0]
    for each in (path, f"{path}/frames/1"):
        answer = await get(archive, f"{each}/rendered")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.body)).size == (256, 256)
    for each in (study, series):
        parts = (await get(archive, f"{each}/rendered")).contents()
        assert [Image.open(io.BytesIO(content)).format for content in parts] == ["JPEG"] * 3
    for each in (study, series, path, f"{path}/frames/1"):
        answer = await get(archive, f"{each}/thumbnail?viewport=64,64", Accept="image/*")
        assert max(Image.open(io.BytesIO(answer.body)).size) == 64


async def test_window_viewport_quality_and_annotation(archive: Any) -> None:
    path, _ = await instance_of(archive)

    async def picture(query: str, accept: str = "image/png") -> Image.Image:
        answer = await get(archive, f"{path}/rendered?{query}", Accept=accept)
        return Image.open(io.BytesIO(answer.body))

    plain = np.asarray(await picture(""))
    wide = np.asarray(await picture("window=1000,100000,linear"))
    assert wide.std() < plain.std()
    assert (await picture("viewport=100,50")).size == (50, 50)
    part = np.asarray(await picture("viewport=64,64,0,0,64,64"))
    assert np.array_equal(part, plain[:64, :64])
    annotated = np.asarray((await picture("annotation=patient,technique")).convert("L"))
    assert not np.array_equal(annotated, plain)
    small = await get(archive, f"{path}/rendered?quality=10")
    large = await get(archive, f"{path}/rendered?quality=95")
    assert len(small.body) < len(large.body)
    for wrong in ("window=1", "window=1,0,linear", "viewport=0,0", "viewport=1,2,3",
                  "quality=0", "quality=101", "annotation=all", "iccprofile=cmyk"):  # fmt: skip
        await get(archive, f"{path}/rendered?{wrong}", status=400)


async def test_wado_uri(archive: Any) -> None:
    path, _ = await instance_of(archive)
    _, _, _, study, _, series, _, uid = path.split("/")
    base = f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={uid}"
    picture = await get(archive, f"{base}&rows=64&columns=64&windowCenter=40&windowWidth=400")
    assert Image.open(io.BytesIO(picture.body)).size == (64, 64)
    part = await get(archive, f"{base}&region=0,0,0.5,0.25&contentType=image/png")
    assert Image.open(io.BytesIO(part.body)).size == (128, 64)
    file = await get(archive, f"{base}&contentType=application%2Fdicom")
    assert file.body == await stored_file(archive, path)
    for wrong in ("&anonymize=yes", "&region=0,0,2,2", "&frameNumber=x", "&foo=1"):
        await get(archive, base + wrong, status=400)
    await get(archive, base.replace(uid, "1.2.3"), status=404)
    await get(archive, base.replace("WADO&", "X&"), status=400)


async def test_whoever_sees_one_study_hears_of_no_other(archive: Any) -> None:
    mine, other = await study_of(archive, 0), await study_of(archive, 1)
    token = await archive.box.parts.access.begin_limited(
        "guest of a test",
        frozenset({Permission.VIEW}),
        Sight(study_uids=frozenset({mine.rpartition("/")[2]})),
        600,
        address="127.0.0.1",
        kind=Kind.BEARER,
    )
    guest = type(archive)(archive.box, token)
    found = await get(guest, "/dicom-web/studies")
    assert found.headers["X-Total-Count"] == "1"
    path, _ = await instance_of(archive, 1)
    await get(archive, f"{path}/frames/1")  # known to the one who sees everything
    own, _ = await instance_of(archive, 0)
    for each in ("", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/bulkdata/7FE00010"):
        await get(guest, path + each, status=404)
        await get(guest, own + each)
    for each in ("", "/metadata", "/rendered", "/thumbnail"):
        await get(guest, other + each, status=404)
        await get(guest, mine + each)
    # an object cannot be had by the name of a study that is seen
    await get(guest, f"{mine}/series/{path.split('/')[5]}/instances/{path.split('/')[7]}",
              status=404)  # fmt: skip
    await get(guest, f"{other}/series", status=204)
    url = f"{archive.box.url}/dicom-web/studies"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"}
    for method, address in (("POST", url), ("DELETE", f"{archive.box.url}{mine}")):
        async with archive.box.http.request(method, address, headers=headers) as answer:
            assert answer.status == 403


async def test_one_line_of_the_trail_for_a_look_and_one_for_each_transfer(archive: Any) -> None:
    study = await study_of(archive, 1)
    path, _ = await instance_of(archive, 1)
    for _ in range(3):
        await get(archive, f"{path}/frames/1")
    await get(archive, study)
    found = await archive.json("GET", "/audit?limit=500")
    lines = [each for each in found["entries"] if each["subject"] == study.rpartition("/")[2]]
    actions = [
        each["action"] for each in lines if each.get("details", {}).get("door") == "dicomweb"
    ]
    assert actions.count("dicom-instances-accessed") == 1
    assert actions.count("dicom-instances-transferred") >= 1


async def test_pages_of_other_sites_are_let_in_only_by_the_settings(archive: Any) -> None:
    url = f"{archive.box.url}/dicom-web/studies"
    question = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    async with archive.box.http.options(url, headers=question) as answer:
        assert answer.status == 204
        assert "Access-Control-Allow-Origin" not in answer.headers
    await archive.json("PATCH", "/settings", json={"settings": {
        "web": {"dicomweb_origins": ["https://viewer.example"]}}})  # fmt: skip
    async with archive.box.http.options(url, headers=question) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    seen = await get(archive, "/dicom-web/studies", Origin="https://viewer.example")
    assert seen.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    assert "X-Total-Count" in seen.headers["Access-Control-Expose-Headers"]
    other = await get(archive, "/dicom-web/studies", Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in other.headers
    api = await get(archive, "/viewer/api/studies", Origin="https://viewer.example")
    assert "Access-Control-Allow-Origin" not in api.headers


async def test_the_service_describes_itself(archive: Any) -> None:
    answer = await get(archive, "/dicom-web/")
    assert b'"search"' in answer.body
    wadl = await get(archive, "/dicom-web/", Accept="application/vnd.sun.wadl+xml")
    assert b"<resources" in wadl.body
