# SPDX-License-Identifier: Apache-2.0
"""A box that has lost its memory of its volumes: which disks it takes for its own."""

import json
from pathlib import Path

import pytest

from scrigno.volumes.states import VolumeState

MEMORY = ("volumes.json", "volumes.copy.json")
MARKER = ".scrigno-volume.json"


def forget(state: Path) -> None:
    """Tear both copies of the memory."""
    for name in MEMORY:
        path = state / name
        path.write_bytes(path.read_bytes()[:40])


def change(folder: Path, **values: object) -> None:
    path = folder / MARKER
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def uuid_of(folder: Path) -> str:
    return str(json.loads((folder / MARKER).read_text())["uuid"])


async def settled(volumes, wanted: dict[str, VolumeState]) -> dict[str, VolumeState]:
    """Wait until the volumes are as wanted, some seconds; returns how they are."""
    import asyncio

    for _ in range(600):
        now = {each.name: each.state for each in volumes.ordered}
        if now == wanted:
            break
        await asyncio.sleep(0.05)
    return now


@pytest.fixture
async def used(box, tmp_path: Path) -> dict[str, Path]:
    """Two volumes that were in use, and the box forgot them."""
    paths = {name: tmp_path / name for name in ("data", "backup1")}
    for path in paths.values():
        path.mkdir()
    async with box(**paths) as made:
        await made.store("studies/1/2/3.dcm", b"image")
    forget(tmp_path / "state")
    return paths


def online(paths: dict[str, Path]) -> dict[str, VolumeState]:
    return dict.fromkeys(paths, VolumeState.ONLINE)


@pytest.mark.spec("ST-1", "ST-3")
async def test_volumes_that_agree_are_let_in_again_and_the_damage_is_told(
    box, used, tmp_path: Path
) -> None:
    before = {name: uuid_of(path) for name, path in used.items()}
    async with box(**used) as made:
        made.volumes.remind({})
        assert await settled(made.volumes, online(used)) == online(used)
        assert {each.name: each.uuid for each in made.volumes.ordered} == before
        assert "volumes.json.damaged" in made.volumes.damage
        assert made.volumes.forgotten == set(used)
    for name in MEMORY:
        assert (tmp_path / "state" / f"{name}.damaged").exists()
        assert json.loads((tmp_path / "state" / name).read_text())["owner"]
    async with box(**used) as made:
        assert await settled(made.volumes, online(used)) == online(used)
        assert made.volumes.damage == ""


@pytest.mark.spec("ST-1", "ST-3")
async def test_a_disk_of_another_box_at_the_path_is_never_taken_for_ours(
    box, used, tmp_path: Path
) -> None:
    change(used["data"], owner="somebody else", uuid="theirs")
    before = (used["data"] / MARKER).read_bytes()
    async with box(**used) as made:
        made.volumes.remind({})
        # one against one: nobody knows whose they are
        wanted = dict.fromkeys(used, VolumeState.FOREIGN)
        assert await settled(made.volumes, wanted) == wanted
        assert "lost its memory" in made.volumes.by_name("backup1").reason
        await made.volumes.adopt("backup1")  # the operator knows
        wanted = {"data": VolumeState.FOREIGN, "backup1": VolumeState.ONLINE}
        assert {**await settled(made.volumes, wanted)}["data"] is VolumeState.FOREIGN
        assert "another box" in made.volumes.by_name("data").reason
    assert (used["data"] / MARKER).read_bytes() == before


@pytest.mark.spec("ST-1", "ST-3")
async def test_what_the_index_remembers_settles_it(box, used, tmp_path: Path) -> None:
    known = {"backup1": uuid_of(used["backup1"]), "data": uuid_of(used["data"])}
    change(used["data"], owner="somebody else", uuid="theirs")
    async with box(**used) as made:
        made.volumes.remind(known)
        wanted = {"data": VolumeState.FOREIGN, "backup1": VolumeState.ONLINE}
        assert await settled(made.volumes, wanted) == wanted
    owner = json.loads((used["backup1"] / MARKER).read_text())["owner"]
    for name in MEMORY:  # who the box is, is known again too
        assert json.loads((tmp_path / "state" / name).read_text())["owner"] == owner


@pytest.mark.spec("ST-1", "ST-3")
async def test_a_bare_mount_point_is_not_adopted_by_a_box_that_forgot(box, used) -> None:
    known = {name: uuid_of(path) for name, path in used.items()}
    for name in ("aside",):
        used["data"].rename(used["data"].with_name(name))
    used["data"].mkdir()
    for reminder in (known, {}):
        async with box(**used) as made:
            made.volumes.remind(reminder)
            wanted = {"data": VolumeState.ABSENT, "backup1": VolumeState.ONLINE}
            now = await settled(made.volumes, wanted)
            assert now["data"] is VolumeState.ABSENT
            assert list(used["data"].iterdir()) == []
            if reminder:
                assert now["backup1"] is VolumeState.ONLINE
        forgotten = list(used["data"].parent.glob("state/*.damaged"))
        assert len(forgotten) == 2
