# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS (PS3.18 section 10.6) at the running box."""

import re
from typing import Any

import pytest

pytestmark = [pytest.mark.spec("IN-5"), pytest.mark.asyncio(loop_scope="module")]


async def search(archive: Any, path: str, *, status: int = 200, **headers: str) -> tuple[Any, Any]:
    url = f"{archive.box.url}/dicom-web{path}"
    headers = {"Authorization": f"Bearer {archive.token}", **headers}
    async with archive.box.http.get(url, headers=headers) as answer:
        content = await answer.read()
        assert answer.status == status, (path, answer.status, content[:500])
        if status == 200 and "json" in answer.content_type:
            return await answer.json(content_type=None), answer.headers
        return content, answer.headers


def values(found: list[Any], tag: str) -> list[Any]:
    return [each.get(tag, {}).get("Value", [None])[0] for each in found]


async def test_studies_come_newest_first_with_the_attributes_of_the_standard(
    archive: Any,
) -> None:
    found, headers = await search(archive, "/studies")
    assert headers["X-Total-Count"] == "4"
    assert values(found, "00080020") == ["20240104", "20240103", "20240102", "20240101"]
    # PS3.18 table 10.6.3-3
    required = (
        "00080020 00080030 00080050 00080056 00080061 00080090 00081190 00100010 00100020 "
        "00100030 00100040 0020000D 00200010 00201206 00201208"
    )
    assert set(required.split()) <= found[0].keys()
    assert values(found, "00080005") == ["ISO_IR 192"] * 4
    assert values(found, "00201208") == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("StudyDate=20240102", 1),
        ("StudyDate=20240102-20240103", 2),
        ("00080020=20240103-", 2),
        ("StudyDate=-20240102", 2),
        ("AccessionNumber=ACC0000*", 4),
        ("AccessionNumber=ACC0000?", 4),
        ("AccessionNumber=ACC00001", 1),
        ("ModalitiesInStudy=CT", 4),
        ("ModalitiesInStudy=MR", 0),
        ("Modality=CT", 4),  # of a series below
        ("PatientID=", 4),
        ("StudyDescription=thorax", 0),  # PS3.4 C.2.2.2.1: case counts in texts
        ("StudyTime=100000-110000", 4),
        ("StudyTime=11", 0),
        ("SeriesDescription=Axial*&AccessionNumber=ACC00002", 1),
    ],
)
async def test_matching(archive: Any, query: str, count: int) -> None:
    found, headers = await search(archive, f"/studies?{query}", status=200 if count else 204)
    assert headers["X-Total-Count"] == str(count)
    assert len(found) == count


async def test_names_match_blind_to_accents_in_every_script_and_fuzzily(archive: Any) -> None:
    everybody, _ = await search(archive, "/studies")
    for each in everybody:
        for group in each["00100010"]["Value"][0].values():
            found, _ = await search(archive, f"/studies?PatientName={group.upper()}")
            assert each["0020000D"] in [one["0020000D"] for one in found]
            word = re.split(r"[\^ ]", group)[-1][:4]
            fuzzy, _ = await search(archive, f"/studies?fuzzymatching=true&PatientName={word}")
            assert each["0020000D"] in [one["0020000D"] for one in fuzzy]


async def test_lists_of_uids_with_commas_and_backslashes(archive: Any) -> None:
    everybody, _ = await search(archive, "/studies")
    uids = values(everybody, "0020000D")
    for separator in (",", "%5C"):
        found, _ = await search(archive, f"/studies?StudyInstanceUID={separator.join(uids[:3])}")
        assert set(values(found, "0020000D")) == set(uids[:3])
    found, _ = await search(archive, f"/studies?StudyInstanceUID={uids[0]}&0020000D={uids[1]}")
    assert len(found) == 2


async def test_pages_and_their_order(archive: Any) -> None:
    first, headers = await search(archive, "/studies?limit=3&orderby=AccessionNumber")
    assert values(first, "00080050") == ["ACC00000", "ACC00001", "ACC00002"]
    assert "There are 1 additional results" in headers["Warning"]
    assert headers["Warning"].startswith("299 ")
    rest, headers = await search(archive, "/studies?limit=3&offset=3&orderby=AccessionNumber")
    assert values(rest, "00080050") == ["ACC00003"]
    assert "Warning" not in headers
    backwards, _ = await search(archive, "/studies?orderby=-NumberOfStudyRelatedInstances")
    assert values(backwards, "00201208") == [4, 3, 2, 1]


async def test_all_levels_and_combinations(archive: Any) -> None:
    studies, _ = await search(archive, "/studies")
    study = studies[0]["0020000D"]["Value"][0]
    series, _ = await search(archive, f"/studies/{study}/series")
    assert len(series) == 1
    assert series[0]["00201209"]["Value"] == [4]
    assert "00100010" not in series[0]  # the study is named in the path
    uid = series[0]["0020000E"]["Value"][0]
    for path in (f"/studies/{study}/instances", f"/studies/{study}/series/{uid}/instances"):
        found, _ = await search(archive, path)
        assert values(found, "00200013") == [1, 2, 3, 4]
        assert values(found, "00080056") == ["ONLINE"] * 4
    everything, _ = await search(archive, "/instances?InstanceNumber=1")
    assert len(everything) == 4
    assert "00100010" in everything[0]
    series, _ = await search(archive, "/series?Modality=CT&PatientSex=M")
    assert {"0020000D", "00080060", "00100040"} <= series[0].keys()


async def test_fields_are_included_by_tag_keyword_and_all(archive: Any) -> None:
    found, _ = await search(archive, "/studies?limit=1")
    assert "00080080" not in found[0]
    for field in ("00080080", "InstitutionName", "all"):
        found, _ = await search(archive, f"/studies?limit=1&includefield={field}")
        assert found[0]["00080080"]["Value"] == ["Clinica di Prova"]
    _, headers = await search(archive, "/studies?includefield=PixelSpacing&FilmNumber=3")
    assert "PixelSpacing" in headers["Warning"]
    assert "FilmNumber" in headers["Warning"]


async def test_answers_in_xml(archive: Any) -> None:
    content, headers = await search(
        archive, "/studies", Accept='multipart/related; type="application/dicom+xml"'
    )
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    assert content.count(b"<NativeDicomModel") == 4
    assert b'<DicomAttribute tag="00080061" vr="CS" keyword="ModalitiesInStudy">' in content


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=x", "offset=1.5", "fuzzymatching=yes", "foo=1", "0010002=x",
        "StudyDate=2024", "StudyDate=20240101-20240102-20240103", "StudyTime=25x",
        "StudyInstanceUID=abc", "orderby=PixelData", "includefield=lower", "SeriesNumber=one",
    ],
)  # fmt: skip
async def test_bad_parameters_are_refused_in_words(archive: Any, query: str) -> None:
    content, _ = await search(archive, f"/series?{query}", status=400)
    assert b"detail" in content


async def test_too_much_is_refused_with_413(archive: Any) -> None:
    many = "&".join(f"PatientID={number}" for number in range(200))
    await search(archive, f"/studies?{many}", status=413)


async def test_who_may_not_view_is_refused_and_nobody_gets_in_without_a_log_in(
    archive: Any,
) -> None:
    async with archive.box.http.get(f"{archive.box.url}/dicom-web/studies") as answer:
        assert answer.status == 401
    await search(archive, "/studies", status=406, Accept="image/png")
