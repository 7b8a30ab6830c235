# SPDX-License-Identifier: Apache-2.0
"""Annotations and key images by the API: own layers, conflicts of two tabs, history."""

import pytest


async def first(anna) -> tuple[str, str]:
    uid = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    study = await anna.json("GET", f"/studies/{uid}")
    return uid, study["series"][0]["instances"][0]["sop_instance_uid"]


def upon(revision: int) -> dict[str, dict[str, str]]:
    return {"headers": {"If-Match": f'"{revision}"'}}


def line(sop: str, name: str = "a1", **more):
    return {
        "id": name,
        "tool": "length",
        "sop_instance_uid": sop,
        "points": [[1, 2.5], [30, 40]],
        "measurements": [{"name": "length", "value": 12.5, "unit": "mm"}],
        **more,
    }


async def bruno_of(anna):
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    made = await anna.box.parts.access.login("bruno", account["password"], address="127.0.0.1")
    return type(anna)(anna.box, made.token)


@pytest.mark.spec("VW-5")
async def test_each_reader_draws_in_a_layer_of_his_own_that_all_see(box, anna):
    await box.take_in(images=1)
    uid, sop = await first(anna)
    bruno = await bruno_of(anna)
    mine = f"/studies/{uid}/annotations/mine"
    made = await anna.json("PUT", mine, json={"annotations": [line(sop)]}, **upon(0))
    assert (made["revision"], made["safe"]) == (1, True)
    await bruno.json("PUT", mine, json={"annotations": [line(sop, "b1"), line(sop, "b2")]},
                     **upon(0))  # fmt: skip
    layers = (await bruno.json("GET", f"/studies/{uid}/annotations"))["layers"]
    assert {each["author"]: each["own"] for each in layers} == {"anna": False, "bruno": True}
    kept = next(each for each in layers if each["author"] == "anna")["annotations"]["annotations"]
    assert kept[0]["points"] == [[1, 2.5], [30, 40]]
    assert kept[0]["style"]["colour"] == "#ffd34d"
    # a second tab of anna's
    clash = await anna.json("PUT", mine, json={"annotations": []}, status=412, **upon(0))
    assert clash["current"]["annotations"][0]["id"] == "a1"
    await anna.json("PUT", mine, json={"annotations": []}, **upon(1))
    layer = next(each["layer"] for each in layers if each["author"] == "anna")
    path = f"/studies/{uid}/annotations/{layer}/versions"
    versions = (await bruno.json("GET", path))["versions"]
    assert [each["number"] for each in versions] == [2, 1]
    old = await bruno.json("GET", f"{path}/1")
    assert len(old["annotations"]["annotations"]) == 1
    await anna.json("POST", f"/studies/{uid}/annotations/mine/restore", json={"version": 1},
                    **upon(2))  # fmt: skip
    again = await anna.ask("GET", mine)
    assert again.headers["ETag"] == '"3"'
    assert len((await again.json())["annotations"]["annotations"]) == 1
    await anna.ask("GET", f"/studies/{uid}/annotations/{'0' * 24}/versions", status=404)
    await anna.ask("GET", f"/studies/{uid}/annotations/..%2f../versions", status=404)


@pytest.mark.spec("VW-5")
@pytest.mark.parametrize(
    "change",
    [
        {"tool": "hammer"}, {"points": [[1, 2]]}, {"points": [[1, 2], [3, 4], [5, 6]]},
        {"points": [[1, 2], [3, "4"]]}, {"points": [[1, 2], [3, 1e300]]}, {"frame": 0},
        {"sop_instance_uid": "../x"}, {"text": "x" * 2000}, {"id": ""}, {"other": 1},
        {"style": {"colour": "red"}}, {"style": {"colour": "#ffffff\n"}},
        {"measurements": [{"name": "x", "value": 1}] * 17},
    ],
)  # fmt: skip
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_annotation_is_refused_with_its_field(archive, change):
    uid, sop = await first(archive)
    refused = await archive.json(
        "PUT", f"/studies/{uid}/annotations/mine", status=400, **upon(0),
        json={"annotations": [line(sop) | change]},
    )  # fmt: skip
    assert refused["code"] == "bad-body"
    assert "annotations" in refused["detail"]


@pytest.mark.spec("VW-5")
async def test_key_images_have_an_order_a_title_and_notes(box, anna):
    await box.take_in(images=1)
    uid, sop = await first(anna)
    path = f"/studies/{uid}/key-images/mine"
    body = {
        "title": "for-surgery",
        "images": [
            {"sop_instance_uid": sop, "note": "here"},
            {"sop_instance_uid": sop, "frame": 2},
        ],
    }
    await anna.json("PUT", path, json=body, **upon(0))
    (layer,) = (await anna.json("GET", f"/studies/{uid}/key-images"))["layers"]
    assert layer["key_images"]["title"] == "for-surgery"
    assert [each["frame"] for each in layer["key_images"]["images"]] == [None, 2]
    await anna.ask("PUT", path, json={"title": "nice"}, status=400, **upon(1))
    await anna.json("PUT", path, json={"images": []}, **upon(1))
    versions = f"/studies/{uid}/key-images/mine/versions"
    assert len((await anna.json("GET", versions))["versions"]) == 2
    assert len((await anna.json("GET", f"{versions}/1"))["key_images"]["images"]) == 2
    await anna.json("POST", f"/studies/{uid}/key-images/mine/restore", json={"version": 1},
                    **upon(2))  # fmt: skip
    found = await anna.json("POST", "/studies/reading", json={"studies": [uid]})
    assert found["studies"][0]["key_images"] == 2


@pytest.mark.spec("VW-5")
async def test_the_largest_layer_is_saved(box, anna):
    await box.take_in(images=1)
    uid, sop = await first(anna)
    many = [
        {"id": str(number), "tool": "probe", "sop_instance_uid": sop, "points": [[number, 1]]}
        for number in range(1500)
    ]
    made = await anna.json(
        "PUT", f"/studies/{uid}/annotations/mine", json={"annotations": many}, **upon(0)
    )
    assert made["safe"]
    too_many = [line(sop, str(number), text="x" * 900) for number in range(600)]
    refused = await anna.json(
        "PUT", f"/studies/{uid}/annotations/mine", json={"annotations": too_many}, status=413,
        **upon(1),
    )  # fmt: skip
    assert refused["code"] == "body-too-large"
