# SPDX-License-Identifier: Apache-2.0
"""Pictures, viewer frames and documents through the API, and what is made ahead of time."""

import asyncio
import io
import shutil

import imagecodecs
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from scrigno.imaging.workers import HTJ2K_RPCL

pytestmark = [pytest.mark.spec("VW-4"), pytest.mark.asyncio(loop_scope="module")]


def picture(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


async def test_a_frame_is_shown_in_the_size_and_format_asked_for(archive):
    uid = archive.uids[1][0]
    for query, size, kind in (
        ("", (256, 256), "JPEG"),
        ("?size=64&format=png", (64, 64), "PNG"),
        ("?width=300&height=100&format=webp", (100, 100), "WEBP"),
        ("?width=128&height=128&left=64&top=64&part_width=32&part_height=16", (128, 64), "JPEG"),
        ("?format=gif&voi=lung&invert=true&annotation=patient,technique", (256, 256), "GIF"),
    ):
        answer = await archive.ask("GET", f"/instances/{uid}/frames/1/rendered{query}")
        made = picture(await answer.read())
        assert (made.size, made.format) == (size, kind)
        assert answer.headers["Cache-Control"] == "private, no-cache"


async def test_a_browser_that_has_the_picture_is_told_so(archive):
    path = f"/instances/{archive.uids[0][0]}/frames/1/rendered?size=100"
    first = await archive.ask("GET", path)
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await archive.ask("GET", path, status=304, headers=headers)
    assert await again.read() == b""
    other = path.replace("100", "101")
    assert (await archive.ask("GET", other, headers=headers)).headers["ETag"] != headers[
        "If-None-Match"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "wc=40", "ww=400", "wc=40&ww=0.5", "wc=nan&ww=400", "size=1", "size=99999", "format=bmp",
        "width=100", "left=5", "quality=0", "frames=3", "frames=2&format=jpeg", "annotation=all",
        "width=100&height=100&part_width=0", "voi=" + "x" * 65, "colour=red",
    ],
)  # fmt: skip
async def test_a_look_that_cannot_be_is_refused(archive, query):
    await archive.ask("GET", f"/instances/{archive.uids[0][0]}/frames/1/rendered?{query}",
                      status=400)  # fmt: skip


async def test_the_viewer_gets_every_value_and_metadata_that_fit_it(archive):
    uid = archive.uids[2][0]
    answer = await archive.ask("GET", f"/instances/{uid}/frames/1/pixels")
    assert answer.headers["Content-Type"] == f"image/jphc; transfer-syntax={HTJ2K_RPCL}"
    pixels = imagecodecs.htj2k_decode(await answer.read())
    about = await archive.json("GET", f"/instances/{uid}/metadata")
    assert pixels.shape == (about["00280010"]["Value"][0], about["00280011"]["Value"][0])
    assert pixels.dtype.itemsize * 8 == about["00280100"]["Value"][0]
    stored = await archive.json("GET", f"/instances/{uid}/attributes")
    assert stored["00080018"]["Value"] == [uid]
    await archive.ask("GET", f"/instances/{uid}/frames/2/pixels", status=404)


async def test_studies_series_and_objects_have_thumbnails(archive):
    [line] = [
        each
        for each in (await archive.json("GET", "/studies"))["rows"]
        if each["number_of_instances"] == 3
    ]
    study = line["study_instance_uid"]
    found = await archive.json("GET", f"/studies/{study}")
    series = found["series"][0]["series_instance_uid"]
    for path in (
        f"/studies/{study}/thumbnail",
        f"/studies/{study}/series/{series}/thumbnail",
        f"/instances/{archive.uids[2][0]}/thumbnail",
    ):
        answer = await archive.ask("GET", path)
        assert max(picture(await answer.read()).size) == 192
    await archive.ask("GET", f"/studies/{study}/series/1.2.3.999/thumbnail", status=404)


async def test_what_does_not_exist_is_not_found_everywhere(archive):
    for path in (
        "frames/1/rendered", "frames/1/pixels", "metadata", "attributes", "thumbnail", "document",
        "presentation",
    ):  # fmt: skip
        await archive.ask("GET", f"/instances/1.2.3.4.999/{path}", status=404)
    answer = await archive.json("GET", f"/instances/{archive.uids[0][0]}/document", status=422)
    assert answer["code"] == "no-document"


async def test_the_cache_may_vanish_while_the_box_runs(archive):
    path = f"/instances/{archive.uids[3][0]}/frames/1/rendered?size=90"
    first = await (await archive.ask("GET", path)).read()
    await asyncio.to_thread(shutil.rmtree, archive.box.root / "staging" / "frames")
    assert await (await archive.ask("GET", path)).read() == first
    # and a torn entry is none
    [kept] = [each for each in (archive.box.root / "staging" / "frames").rglob("*") if
              each.is_file()]  # fmt: skip
    kept.write_bytes(kept.read_bytes()[:-7])
    assert await (await archive.ask("GET", path)).read() == first


def hostile_report() -> Dataset:
    """Return a report whose every text is an attack on the page."""
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{7*7}}"
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = "1.2.3.77.1", "1.2.3.77"
    dataset.SeriesInstanceUID = "1.2.3.77.2"
    dataset.Modality = "SR"
    dataset.PatientName, dataset.PatientID = attack, "77"
    dataset.StudyDescription = attack[:60]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "X", attack[:60]
    dataset.ConceptNameCodeSequence = [code]
    dataset.ValueType = "CONTAINER"
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", attack
    item.ConceptNameCodeSequence = [code]
    dataset.ContentSequence = [item]
    return dataset


async def take_in(client, dataset: Dataset, name: str) -> str:
    """Import one made object; returns its UID."""
    folder = client.box.root / f"incoming-{name}"

    def write() -> None:
        folder.mkdir()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        pydicom.dcmwrite(folder / "one.dcm", dataset, enforce_file_format=True)

    await asyncio.to_thread(write)
    report = await client.box.parts.importer.import_paths([folder])
    assert report.new == 1, report
    return str(dataset.SOPInstanceUID)


@pytest.mark.spec("VW-3")
async def test_a_hostile_report_is_a_harmless_page(archive):
    uid = await take_in(archive, hostile_report(), "report")
    answer = await archive.ask("GET", f"/instances/{uid}/document")
    page = await answer.text()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Scrigno-Document"] == "report"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.spec("VW-3")
async def test_an_ecg_is_drawn_and_read_in_parts(archive):
    dataset = await asyncio.to_thread(pydicom.dcmread, get_testdata_file("waveform_ecg.dcm"))
    uid = await take_in(archive, dataset, "ecg")
    path = f"/instances/{uid}/document"
    answer = await archive.ask("GET", path)
    drawing = await answer.read()
    assert answer.headers["Content-Type"].startswith("image/svg+xml")
    for lead in (b">I<", b">aVR<", b">V6<", b"25 mm/s  10 mm/mV"):
        assert lead in drawing
    part = await archive.ask("GET", path, status=206, headers={"Range": "bytes=10-19"})
    assert await part.read() == drawing[10:20]
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(drawing)}"
    tail = await archive.ask("GET", path, status=206, headers={"Range": "bytes=-5"})
    assert await tail.read() == drawing[-5:]
    await archive.ask("GET", path, status=416, headers={"Range": f"bytes={len(drawing)}-"})
    changed = {"Range": "bytes=0-1", "If-Range": '"another"'}
    assert await (await archive.ask("GET", path, headers=changed)).read() == drawing
    kept = await archive.ask("GET", path + "?download=true")
    assert kept.headers["Content-Disposition"] == 'attachment; filename="document.svg"'


@pytest.mark.asyncio(loop_scope="function")
async def test_thumbnail_and_first_picture_are_made_before_anybody_asks(box, anna):
    [uid, *_] = await box.take_in(images=2, size=256)
    async with asyncio.timeout(30):
        while box.parts.web_ports and _kept(box) < 2:  # thumbnail, first picture
            await asyncio.sleep(0.2)
    before = await _rendered(box)
    answer = await anna.ask("GET", f"/instances/{uid}/frames/1/rendered?size=1024")
    assert picture(await answer.read()).size == (256, 256)
    assert await _rendered(box) == before


def _kept(box) -> int:
    return sum(each.is_file() for each in (box.root / "staging" / "frames").rglob("*"))


async def _rendered(box) -> list[str]:
    metrics = await (await box.http.get(f"{box.url}/metrics")).text()
    return [line for line in metrics.splitlines() if "imaging_jobs" in line]
