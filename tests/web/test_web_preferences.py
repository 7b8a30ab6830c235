# SPDX-License-Identifier: Apache-2.0
"""Preferences follow the login; hanging defaults are own, or everybody's."""

import pytest


def upon(revision: int) -> dict[str, dict[str, str]]:
    return {"headers": {"If-Match": f'"{revision}"'}}


async def bruno_of(anna):
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    made = await anna.box.parts.access.login("bruno", account["password"], address="127.0.0.1")
    return type(anna)(anna.box, made.token)


@pytest.mark.spec("VW-9", "VW-2")
async def test_preferences_follow_the_login_and_nobody_elses(box, anna):
    wanted = {
        "list": {
            "columns": [{"name": "patient", "width": 240}, {"name": "note", "shown": False}],
            "sort": "patient_name",
            "order": "asc",
        },
        "filters": {
            "filters": [
                {
                    "id": "f1", "name": "CT today", "period": "today", "first": True,
                    "filters": [{"field": "modalities", "values": ["CT"]}],
                }
            ]
        },
        "viewer": {
            "presets": [{"name": "Lung", "window": {"center": -400, "width": 1600}}],
            "overlay": {"top_left": ["PatientName", "PatientID"]},
        },
        "shortcuts": {"shortcuts": [{"command": "next-series", "keys": "PageDown"}]},
        "ui-print": {"anything": [1, {"a": None}]},
    }  # fmt: skip
    for name, value in wanted.items():
        made = await anna.json("PUT", f"/preferences/{name}", json=value, **upon(0))
        assert made["safe"], name
    login = await box.parts.access.login("anna", "corretto cavallo batteria", address="10.0.0.2")
    elsewhere = type(anna)(box, login.token)  # another PC
    for name, value in wanted.items():
        found = await elsewhere.json("GET", f"/preferences/{name}")
        assert found["value"].items() >= {k: found["value"][k] for k in value}.items()
        if name == "ui-print":
            assert found["value"] == value
    assert len((await anna.json("GET", "/preferences"))["preferences"]) == 5
    bruno = await bruno_of(anna)
    assert (await bruno.json("GET", "/preferences"))["preferences"] == []
    assert (await bruno.json("GET", "/preferences/list"))["revision"] == 0
    clash = await anna.json("PUT", "/preferences/list", json={}, status=412, **upon(0))
    assert clash["current"]["sort"] == "patient_name"
    await anna.ask("DELETE", "/preferences/list", status=204)
    await anna.ask("DELETE", "/preferences/list", status=404)
    assert (await anna.json("GET", "/preferences/list"))["value"] == {}


@pytest.mark.spec("VW-9")
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("list", {"columns": [{"name": "../x"}]}, 400),
        ("list", {"page_size": 1}, 400),
        ("filters", {"filters": [{"id": "a", "name": "b", "filters": [{"field": "x"}]}]}, 400),
        ("viewer", {"presets": [{"name": "x", "window": {"center": 0, "width": -1}}]}, 400),
        ("shortcuts", [], 400),
        ("ui-x", [1], 400),
        ("ui-x", {"a": "x" * 40_000}, 422),
        ("unknown", {}, 404),
        ("ui-", {}, 404),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_preference_cannot_be_is_refused(archive, name, value, status):
    await archive.ask("PUT", f"/preferences/{name}", json=value, status=status, **upon(0))


@pytest.mark.spec("VW-9")
async def test_the_own_default_counts_before_everybodys_and_the_body_part_before_any(box, anna):
    bruno = await bruno_of(anna)

    def hanging(columns: int) -> dict:
        return {
            "layout": {"rows": 1, "columns": columns},
            "parts": [{"window": {"center": 40, "width": 400}}, {"prior": 1}],
        }

    async def counts(client, modality: str, part: str) -> int | None:
        query = {"modality": modality, "body_part": part}
        found = (await client.json("GET", "/hangings/resolved", params=query))["hanging"]
        return None if found is None else found["hanging"]["layout"]["columns"]

    assert await counts(bruno, "CT", "CHEST") is None
    await bruno.ask("PUT", "/hangings/everybody/CT/*", json=hanging(1), status=403, **upon(0))
    await anna.json("PUT", "/hangings/everybody/CT/*", json=hanging(1), **upon(0))
    assert await counts(bruno, "CT", "CHEST") == 1
    await anna.json("PUT", "/hangings/everybody/CT/CHEST", json=hanging(2), **upon(0))
    assert await counts(bruno, "ct", "chest") == 2
    await bruno.json("PUT", "/hangings/mine/CT/*", json=hanging(3), **upon(0))
    assert await counts(bruno, "CT", "CHEST") == 3
    await bruno.json("PUT", "/hangings/mine/CT/CHEST", json=hanging(4), **upon(0))
    assert await counts(bruno, "CT", "CHEST") == 4
    assert await counts(bruno, "CT", "HEAD") == 3
    assert await counts(anna, "CT", "HEAD") == 1
    assert await counts(bruno, "MR", "HEAD") is None
    listed = (await bruno.json("GET", "/hangings"))["hangings"]
    assert [(each["whose"], each["body_part"]) for each in listed] == [
        ("mine", "*"), ("mine", "CHEST"), ("everybody", "*"), ("everybody", "CHEST"),
    ]  # fmt: skip
    one = await bruno.ask("GET", "/hangings/mine/CT/CHEST")
    assert one.headers["ETag"] == '"1"'
    await bruno.ask("DELETE", "/hangings/mine/CT/CHEST", status=204)
    await bruno.ask("DELETE", "/hangings/everybody/CT/CHEST", status=403)
    assert await counts(bruno, "CT", "CHEST") == 3
    trail = {each["action"] for each in (await anna.json("GET", "/audit"))["entries"]}
    assert {"hanging-saved", "hanging-removed"} <= trail
    for path in ("/hangings/mine/CT/..%2f", "/hangings/nobody/CT/*", "/hangings/mine/c t/*"):
        await bruno.ask("PUT", path, json=hanging(1), status=404, **upon(0))
