# SPDX-License-Identifier: Apache-2.0
"""The digest kept beside each object, and a volume that is judged without the box."""

import asyncio
import errno
import hashlib
import os
import shutil
import subprocess  # noqa: TID251 - sha256sum, as somebody with only the disk would use it
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contents import sha
from scrigno.core.errors import CommandError
from scrigno.volumes.beside import ATTRIBUTE, LIST_NAME
from scrigno.volumes.lone import Finding, verify_lone
from scrigno.volumes.marker import Marker
from scrigno.volumes.protocol import Put
from scrigno.volumes.tree import Tree

pytestmark = pytest.mark.spec("ST-6", "ST-8")
KEY = "studies/1.2/3.4/5.6.dcm"


def _put(tree: Tree, key: str, content: bytes) -> Put:
    source = os.memfd_create("source")
    try:
        os.write(source, content)
        digest = hashlib.sha256(content).digest()
        return tree.put(key, source, len(content), digest, lambda: None).outcome
    finally:
        os.close(source)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "data").mkdir()
    made = Tree(tmp_path / "data")
    made.open()
    marker = Marker.new(owner="box", name="data", role="data", now=datetime.now(UTC))
    made.mark(marker)
    made.arm(marker.uuid)
    yield made
    made.close()


@pytest.fixture(params=["attributes", "lists"])
def kept_in(request, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where this file system can keep digests."""
    if request.param == "lists":

        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(os, "setxattr", refuse)
        monkeypatch.setattr(os, "getxattr", refuse)
    return request.param


def _beside(tree: Tree, key: str) -> str | None:
    kept = tree.beside(key)
    return kept.hex() if kept is not None else None


def test_the_digest_follows_an_object_through_its_life(
    tree: Tree, kept_in: str, tmp_path: Path
) -> None:
    assert _put(tree, KEY, b"one") is Put.STORED
    assert _put(tree, KEY + "2", b"two") is Put.STORED
    assert _beside(tree, KEY) == sha(b"one")
    tree.link(KEY, "inbox/a.dcm", lambda: None)
    assert _beside(tree, "inbox/a.dcm") == sha(b"one")
    assert tree.rename("inbox/a.dcm", "inbox/b.dcm")
    assert _beside(tree, "inbox/b.dcm") == sha(b"one")
    tree.put_bytes("inbox/b.json", b"{}")
    tree.put_bytes("inbox/b.json", b"{1}")
    assert _beside(tree, "inbox/b.json") == sha(b"{1}")
    assert tree.remove(KEY)
    assert _put(tree, KEY, b"other") is Put.STORED
    assert _beside(tree, KEY) == sha(b"other")
    assert [key for key, _ in tree.walk("", "")] == ["inbox/b.dcm", "inbox/b.json", KEY, KEY + "2"]
    lists = list((tmp_path / "data").rglob(LIST_NAME))
    assert bool(lists) is (kept_in == "lists")
    for one in lists:
        done = subprocess.run(
            ["sha256sum", "--strict", "-c", LIST_NAME], cwd=one.parent, check=False
        )
        assert done.returncode == 0
    for key in ("inbox/b.dcm", "inbox/b.json", KEY, KEY + "2"):
        assert tree.remove(key)
    assert not (tmp_path / "data/studies/1.2").exists()


def test_an_older_object_gets_its_digest_when_it_is_met_again(tree: Tree, kept_in: str) -> None:
    _put(tree, KEY, b"one")
    _forget_digest(tree, kept_in)
    assert _beside(tree, KEY) is None
    assert _put(tree, KEY, b"one") is Put.SAME
    assert _beside(tree, KEY) == sha(b"one")
    _forget_digest(tree, kept_in)
    tree.note(KEY, bytes.fromhex(sha(b"one")))
    tree.note(KEY, bytes.fromhex(sha(b"one")))
    assert _beside(tree, KEY) == sha(b"one")


def _forget_digest(tree: Tree, kept_in: str) -> None:
    path = tree._path / KEY
    if kept_in == "lists":
        (path.parent / LIST_NAME).unlink()
    else:
        os.removexattr(path, ATTRIBUTE)


def test_a_list_torn_by_a_power_cut_goes_on(tree: Tree, kept_in: str) -> None:
    if kept_in != "lists":
        return
    _put(tree, KEY, b"one")
    with (tree._path / KEY).with_name(LIST_NAME).open("ab") as file:
        file.write(b"0123456789abcdef")
    _put(tree, KEY + "2", b"two")
    assert _beside(tree, KEY) == sha(b"one")
    assert _beside(tree, KEY + "2") == sha(b"two")


def test_folders_removed_by_hand_under_a_live_volume_are_made_again(
    tree: Tree, kept_in: str
) -> None:
    # seen on ext4: an unnamed file in a removed folder is refused with EPERM, again and again
    _put(tree, KEY, b"one")
    shutil.rmtree(tree._path / "studies")
    assert _put(tree, KEY, b"one") is Put.STORED
    tree.put_bytes("inbox/x.json", b"{}")
    for name in ("inbox", ".scrigno-tmp"):
        shutil.rmtree(tree._path / name)
    tree.put_bytes("inbox/x.json", b"{}")
    shutil.rmtree(tree._path / "inbox")
    tree.link(KEY, "inbox/y.dcm", lambda: None)
    assert (tree._path / "inbox/y.dcm").read_bytes() == b"one"
    assert tree.vanished() == 3
    assert tree.vanished() == 0
    shutil.rmtree(tree._path / "studies")
    (tree._path / KEY).parent.mkdir(parents=True)
    (tree._path / KEY).write_bytes(b"by hand")
    assert tree.remove(KEY)


def test_a_disk_alone_tells_which_files_are_whole(tree: Tree, kept_in: str, tmp_path: Path) -> None:
    for number in range(4):
        _put(tree, f"studies/1/{number}.dcm", b"x" * number)
    folder = tmp_path / "data/studies/1"
    with (folder / "1.dcm").open("r+b") as file:
        file.write(b"y")
    (folder / "2.dcm").unlink()
    (folder / "alien.dcm").write_bytes(b"alien")
    (tmp_path / "data/lost+found").mkdir()
    found = {str(f.path): f for f in verify_lone(tmp_path / "data")}
    assert {name: f.finding for name, f in found.items()} == {
        "studies/1/0.dcm": Finding.GOOD,
        "studies/1/1.dcm": Finding.CHANGED,
        "studies/1/3.dcm": Finding.GOOD,
        "studies/1/alien.dcm": Finding.UNNOTED,
    } | ({"studies/1/2.dcm": Finding.MISSING} if kept_in == "lists" else {})
    changed = found["studies/1/1.dcm"]
    assert (changed.digest, changed.beside) == (sha(b"y"), sha(b"x"))
    assert [f.path.name for f in verify_lone(tmp_path / "data", under="studies/1")]
    with pytest.raises(CommandError, match="cannot be read"):
        list(verify_lone(tmp_path / "nothing"))


async def test_a_volume_answers_with_both_digests(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        await b.store(KEY, b"content")
        volume = b.volumes.by_name("data")
        checked = await volume.check(KEY)
        assert (checked.digest, checked.size, checked.beside) == (
            sha(b"content"),
            7,
            sha(b"content"),
        )
        os.removexattr(tmp_path / "data" / KEY, ATTRIBUTE)
        assert (await volume.check(KEY)).beside is None
        await volume.note_digest(KEY, sha(b"content"))
        assert (await volume.check(KEY)).beside == sha(b"content")
        shutil.rmtree(tmp_path / "data/studies")
        await b.store("studies/1.2/3.4/5.7.dcm", b"content")
        assert volume.state.value == "online"
        volume.doubt.set()
        async with asyncio.timeout(5):
            while "removed here by somebody" not in volume.reason:
                await asyncio.sleep(0.02)
        assert volume.state.value == "online"
        assert b.counters.value("volume_folders_vanished", volume="data") == 1
        assert ("data", "suspect") not in b.changes


@pytest.mark.spec("ST-2")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_the_digest_survives_the_power_cut_that_the_object_survives(
    box, filesystem, kind: str
) -> None:
    disk = filesystem("data", kind=kind)
    async with box(data=disk.mount_point) as b:
        for number in range(5):
            await b.store(f"studies/1/2/{number}.dcm", b"x" * number)
        disk.shutdown(2)
    disk.unmount()
    disk.mount()
    found = await asyncio.to_thread(lambda: list(verify_lone(disk.mount_point)))
    findings = [f.finding for f in found]
    assert findings == [Finding.GOOD] * 5
