# SPDX-License-Identifier: Apache-2.0
"""Every route at once: who may use it, from which site, and whether the trail hears of it."""

import re
from pathlib import Path

import pytest

from scrigno.access.permissions import Permission
from scrigno.web import application
from scrigno.web.pictures import Pictures
from scrigno.web.routes import For, Own, Route, Unaudited

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.spec("AD-7")]

USER, PASSWORD = "anna", "corretto cavallo batteria"
VALUES = {"uid": "1.2.3", "study": "1.2.3", "series": "1.2.3", "instance": "1.2.3", "number": "1"}


def every_route() -> list[Route]:
    return application.all_routes(Pictures.__new__(Pictures))


def address(route: Route) -> str:
    """Return an address of the route; what it names is nowhere."""
    return re.sub(r"\{(\w+)\}", lambda found: VALUES.get(found[1], "1"), route.plain_path)


ROUTES = every_route()
CHANGING = [each for each in ROUTES if each.changes]


@pytest.fixture
def anna(claimed):
    return claimed


async def test_there_are_routes_and_each_says_who_may_use_it():
    assert len(ROUTES) > 100
    for route in ROUTES:
        assert isinstance(route.allowed, For | Permission), route.path
        assert route.about, route.path


async def test_no_route_that_reads_changes_something_by_its_name():
    for route in ROUTES:
        if route.method == "GET":
            words = set(re.split(r"[_/-]", route.work.__name__))
            assert not words & {"delete", "remove", "add", "change", "set", "revert"}, route.path


async def test_every_changing_route_says_what_the_trail_hears():
    for route in CHANGING:
        assert route.audit, f"{route.method} {route.path} is not recorded and does not say why"
        if isinstance(route.audit, Unaudited):
            assert len(route.audit.why) > 10, route.path
        elif isinstance(route.audit, Own):
            assert route.audit.action, route.path


async def test_without_a_log_in_only_the_entry_answers(anna):
    for route in ROUTES:
        if route.allowed is For.ANYBODY:
            continue
        async with anna.box.http.request(
            route.method, anna.box.url + address(route), json={} if route.changes else None
        ) as answer:
            assert answer.status == 401, (route.method, route.path, answer.status)


async def test_the_entry_is_a_short_list():
    entry = {(each.method, each.path) for each in ROUTES if each.allowed is For.ANYBODY}
    assert len(entry) <= 24, sorted(entry)
    for _, path in entry:
        assert not re.search("setting|volume|audit|log(s|$)|account(s|/)|peer|trash", path), path


async def test_no_page_of_another_site_changes_anything_by_any_route(anna):
    box = anna.box
    body = {"user": USER, "password": PASSWORD, "cookie": True}
    async with box.http.post(box.api("/login"), json=body) as answer:
        assert answer.status == 200
    for route in CHANGING:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with box.http.request(
                route.method, box.url + address(route), json={}, headers=headers
            ) as answer:
                has_body = answer.status >= 400 and route.method != "HEAD"
                found = await answer.json(content_type=None) if has_body else {}
                assert (answer.status, found.get("code")) == (403, "cross-origin"), route.path
    box.http.cookie_jar.clear()


async def test_somebody_without_rights_is_refused_and_the_refusal_is_recorded(anna):
    box = anna.box
    role = {"name": "onlooker", "permissions": []}
    await anna.json("POST", "/roles", status=201, json=role)
    await box.parts.access.add_account("guido", "molto lunga e segreta", "onlooker")
    made = await box.parts.access.login("guido", "molto lunga e segreta", address="127.0.0.1")
    headers = {"Authorization": f"Bearer {made.token}"}
    refused = 0
    for route in ROUTES:
        if route.permission is None:
            continue
        async with box.http.request(
            route.method,
            box.url + address(route),
            json={} if route.changes else None,
            headers=headers,
        ) as answer:
            assert answer.status == 403, (route.method, route.path, answer.status)
            if route.method != "HEAD":
                assert (await answer.json(content_type=None))["code"] == "not-allowed"
        refused += 1
    assert refused > 60
    recorded = await box.parts.audit.entries(limit=1000, who="guido")
    codes = [each for each in recorded if each.details.get("code") == "not-allowed"]
    framed = [each for each in CHANGING if each.permission and isinstance(each.audit, str)]
    assert len(codes) >= len(framed)


async def test_what_somebody_does_is_in_the_trail_with_name_and_outcome(anna):
    await anna.json("POST", "/scrub/pause")
    await anna.json("POST", "/scrub/resume")
    await anna.ask("DELETE", "/accounts/nobody", status=404)
    lines = await anna.box.parts.audit.entries(limit=200, who=USER)
    found = {(each.action, each.outcome) for each in lines}
    assert ("scrub-pause", "success") in found
    assert any(outcome == "failure" for _, outcome in found)


async def test_every_look_at_a_study_is_recorded_once_and_not_for_each_picture(anna):
    box = anna.box
    uids = await box.take_in(images=2, patient=1)
    page = await anna.json("GET", "/studies")
    uid = page["rows"][0]["study_instance_uid"]
    for _ in range(3):
        await anna.ask("GET", f"/studies/{uid}")
        for image in uids:
            await anna.ask("GET", f"/instances/{image}/frames/1/rendered")
    looks = await box.parts.audit.entries(action="dicom-instances-accessed", study=uid, who=USER)
    assert len(looks) == 1, [(e.number, e.subject, e.details) for e in looks]
    assert looks[0].details["address"]


async def test_log_ins_that_succeed_and_fail_are_recorded(anna):
    box = anna.box
    body = {"user": USER, "password": "not the one"}
    async with box.http.post(box.api("/login"), json=body) as answer:
        assert answer.status == 401
    async with box.http.post(box.api("/login"), json=body | {"password": PASSWORD}) as answer:
        token = (await answer.json())["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with box.http.post(box.api("/logout"), headers=headers) as answer:
        assert answer.status == 204
    lines = await box.parts.audit.entries(limit=50)
    found = {(each.action, each.outcome) for each in lines}
    assert ("login", "success") in found
    assert ("login", "failure") in found
    assert ("logout", "success") in found
    assert not [each for each in lines if "not the one" in str(each)]


async def test_the_list_of_routes_is_whole():
    """Each file of the web room that holds ROUTES is served."""
    folder = Path(application.__file__).parent
    served = {route.work.__module__.rpartition(".")[2] for route in ROUTES}
    for path in folder.glob("*_api.py"):
        if re.search(r"^(    )?Route\(", path.read_text(), re.MULTILINE):
            assert path.stem in served, path.name
