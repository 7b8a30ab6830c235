# SPDX-License-Identifier: Apache-2.0
"""Studies over HTTP: lists, searches, one study, pictures."""

import asyncio
import io

import pytest
from PIL import Image

# one box for all of them: nothing here changes it
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("_proc_may_be_read"),
]


@pytest.mark.spec("VW-2")
async def test_the_list_is_searched_sorted_filtered_counted_and_paged_by_the_box(archive):
    page = await archive.json("GET", "/studies?sort=number_of_instances&order=asc&limit=2&offset=1")
    assert page["total"] == 4
    assert [row["number_of_instances"] for row in page["rows"]] == [2, 3]

    async def found(**query) -> list[str]:
        answer = await archive.json("POST", "/studies/search", json=query)
        return [row["patient_id"] for row in answer["rows"]]

    assert await found(search="ross") == ["IT-001"]
    assert await found(search="山田") == ["JP-7001"]
    assert await found(search="lefevre") == ["FR-88"]
    assert await found(search="nobody") == []
    assert await found(filters=[{"field": "modalities", "values": ["MR"]}]) == []
    day = {"field": "study_date", "operator": "range", "values": ["20240102", "20240103"]}
    assert await found(filters=[day], sort="patient_id", order="asc") == ["JP-7001", "KR-3"]
    assert (await archive.json("GET", "/studies?modalities=CT&modalities=MR"))["total"] == 4
    assert (await archive.json("GET", "/studies?patient_id[contains]=JP"))["total"] == 1


async def test_person_names_keep_their_three_groups(archive):
    row = (await archive.json("GET", "/studies?search=JP-7001"))["rows"][0]
    assert row["patient_name"] == {
        "alphabetic": "Yamada^Tarou",
        "ideographic": "山田^太郎",
        "phonetic": "やまだ^たろう",
    }


@pytest.mark.parametrize(
    "query",
    ["sort=nothing", "order=up", "offset=-1", "limit=501", "limit=x", "search=" + "x" * 300],
)
async def test_a_query_that_makes_no_sense_is_refused_in_words(archive, query: str):
    content = await archive.json("GET", f"/studies?{query}", status=400)
    assert content["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"filters": "x"},
        {"filters": [1]},
        {"filters": [{"field": "modalities", "values": []}]},
        {"filters": [{"field": "modalities", "values": [{}]}]},
        {"filters": [{"field": "modalities", "operator": "drop table", "values": ["x"]}]},
        {"filters": [{"field": "password_hash", "values": ["x"]}]},
        {"search": ["x"]},
        {"search": "nul\0"},
        {"limit": True},
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_in_words(archive, body):
    assert (await archive.json("POST", "/studies/search", json=body, status=400))["detail"]


@pytest.mark.spec("VW-1")
async def test_a_study_shows_its_series_and_objects_in_order(archive):
    uids = archive.uids[2]
    listed = (await archive.json("GET", "/studies?search=KR-3"))["rows"][0]["study_instance_uid"]
    content = await archive.json("GET", f"/studies/{listed}")
    (series,) = content["series"]
    assert [each["sop_instance_uid"] for each in series["instances"]] == uids
    assert series["instances"][0]["rows"] == 256
    assert series["modality"] == "CT"
    await archive.ask("GET", "/studies/1.2.3", status=404)
    await archive.ask("GET", "/studies/not-a-uid", status=404)
    await archive.ask("GET", "/studies/..%2f..%2fetc", status=404)


@pytest.mark.spec("VW-4")
async def test_a_frame_is_rendered_with_its_own_window_or_another(archive):
    (uid,) = archive.uids[0]
    path = f"/instances/{uid}/frames/1/rendered"
    answer = await archive.ask("GET", path)
    assert answer.content_type == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Scrigno-Window-Center"] == "1040"
    assert answer.headers["Scrigno-Window-Width"] == "400"
    assert answer.headers["Scrigno-Frames"] == "1"
    stored = Image.open(io.BytesIO(await answer.read()))
    assert stored.size == (256, 256)
    bright = await (await archive.ask("GET", f"{path}?wc=-1000&ww=1&format=png")).read()
    assert Image.open(io.BytesIO(bright)).convert("L").getextrema()[1] == 255
    small = await (await archive.ask("GET", f"{path}?size=16")).read()
    assert Image.open(io.BytesIO(small)).size == (16, 16)
    again = await archive.ask("GET", f"{path}?size=16")
    assert await again.read() == small
    assert again.headers["Scrigno-Window-Center"] == "1040"


async def test_many_who_want_one_picture_share_one_rendering(archive):
    (uid,) = archive.uids[0]
    path = f"/instances/{uid}/frames/1/rendered?size=100"
    answers = await asyncio.gather(*(archive.ask("GET", path) for _ in range(12)))
    assert len({await each.read() for each in answers}) == 1


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("frames/2/rendered", 404, "no-such-frame"),
        ("frames/0/rendered", 404, "not-found"),
        ("frames/x/rendered", 404, "not-found"),
        ("frames/1/rendered?wc=1", 400, "bad-request"),
        ("frames/1/rendered?wc=nan&ww=2", 400, "bad-request"),
        ("frames/1/rendered?wc=0&ww=0", 400, "bad-request"),
        ("frames/1/rendered?size=9999999", 400, "bad-request"),
        ("frames/1/rendered?format=exe", 400, "bad-request"),
    ],
)
async def test_a_picture_that_cannot_be_is_refused_in_words(archive, query, status, code):
    (uid,) = archive.uids[0]
    content = await archive.json("GET", f"/instances/{uid}/{query}", status=status)
    assert content["code"] == code


@pytest.mark.spec("VW-2")
async def test_a_study_has_a_thumbnail(archive):
    uid = (await archive.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    answer = await archive.ask("GET", f"/studies/{uid}/thumbnail")
    assert Image.open(io.BytesIO(await answer.read())).size == (192, 192)
    await archive.ask("GET", "/studies/1.2.3/thumbnail", status=404)
