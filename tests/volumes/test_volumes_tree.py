# SPDX-License-Identifier: Apache-2.0
"""The files of a volume with nothing cached yet, as after a start."""

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scrigno.volumes.files import Refused
from scrigno.volumes.key_turns import SAY_EVERY_S, KeyTurns
from scrigno.volumes.marker import MARKER_NAME, Marker
from scrigno.volumes.protocol import Put
from scrigno.volumes.states import ErrorKind
from scrigno.volumes.tree import Tree


def test_a_folder_that_no_cache_holds_is_used_while_it_is_open(tmp_path: Path) -> None:
    # seen as EBADF: the descriptor of a folder was closed between looking it up and using it
    folder = tmp_path / "studies" / "1.2" / "3.4"
    folder.mkdir(parents=True)
    (folder / "5.6.dcm").write_bytes(b"content")
    tree = Tree(tmp_path)
    tree.open()
    try:
        assert tree.stat("studies/1.2/3.4/5.6.dcm") == 7
        assert tree.digest("studies/1.2/3.4/5.6.dcm", 0, lambda: None)[1] == 7
        assert list(tree.walk("", "")) == [("studies/1.2/3.4/5.6.dcm", 7)]
    finally:
        tree.close()


@pytest.mark.spec("ST-1")
def test_another_marker_in_the_same_folder_is_a_wrong_disk(tmp_path: Path) -> None:
    def marker() -> Marker:
        return Marker.new(owner="box", name="data", role="data", now=datetime.now(UTC))

    ours = marker()
    tree = Tree(tmp_path)
    tree.open()
    try:
        tree.mark(ours)
        tree.arm(ours.uuid)
        tree.check()
        (tmp_path / MARKER_NAME).write_bytes(marker().text())
        with pytest.raises(Refused) as foreign:
            tree.check()
        assert foreign.value.kind is ErrorKind.FOREIGN
        (tmp_path / MARKER_NAME).unlink()
        with pytest.raises(Refused) as absent:
            tree.check()
        assert absent.value.kind is ErrorKind.ABSENT
    finally:
        tree.close()


# one key, several at once -------------------------------------------------------------------------

KEY = "studies/1.2/3.4/5.6.dcm"
OTHER = "studies/1.2/3.4/5.7.dcm"
CONTENT = b"the bytes of an image" * 1000


@pytest.fixture
def armed(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "data").mkdir()
    tree = Tree(tmp_path / "data")
    tree.open()
    marker = Marker.new(owner="box", name="data", role="data", now=datetime.now(UTC))
    tree.mark(marker)
    tree.arm(marker.uuid)
    yield tree
    tree.close()


def put(tree: Tree, key: str, alive: Callable[[], None] = lambda: None) -> Put:
    source = os.memfd_create("source")
    try:
        os.write(source, CONTENT)
        digest = hashlib.sha256(CONTENT).digest()
        return tree.put(key, source, len(CONTENT), digest, alive).outcome
    finally:
        os.close(source)


class SlowDisk:
    """Holds the first fsync of a folder that has the file KEY, and lets it fail then."""

    def __init__(self, tree_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._file = tree_path / KEY
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, fd: int) -> None:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        if folder and not self.reached.is_set() and self._file.exists():
            self.reached.set()
            assert self.go_on.wait(20)
            raise OSError(errno.EIO, "the disk has lost it")
        self._fsync(fd)


@pytest.mark.spec("ST-2")
@pytest.mark.parametrize("second", ["put", "link", "rename", "remove"])
def test_nobody_takes_for_granted_what_a_put_under_way_may_take_back(
    armed: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    assert put(armed, OTHER) is Put.STORED
    works: dict[str, Callable[[], Any]] = {
        "put": lambda: put(armed, KEY),
        "link": lambda: armed.link(OTHER, KEY, lambda: None).outcome,
        "rename": lambda: armed.rename(OTHER, KEY),
        "remove": lambda: armed.remove(KEY),
    }
    disk = SlowDisk(tmp_path / "data", monkeypatch)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(put, armed, KEY)
        try:
            assert disk.reached.wait(20)
            other: Future[Any] = threads.submit(works[second])
            time.sleep(0.2)  # time enough to answer too early
            waited = not other.done()
            # an object beside it is held up by nothing
            assert threads.submit(armed.put_bytes, "inbox/a.json", b"{}").result(20) is None
            assert threads.submit(put, armed, "studies/1.2/3.5/1.dcm").result(20) is Put.STORED
        finally:
            disk.go_on.set()
        with pytest.raises(OSError, match="the disk has lost it"):
            first.result(20)
        answer = other.result(20)
    assert waited
    expected = {"put": Put.STORED, "link": Put.STORED, "rename": True, "remove": False}
    assert answer == expected[second]
    stands = (tmp_path / "data" / KEY).exists()
    assert stands is (second != "remove")  # what was answered is what is there


def test_turns_leave_nothing_behind_and_whoever_waits_says_that_it_lives() -> None:
    turns = KeyTurns()
    said = threading.Event()
    order: list[str] = []

    def second() -> None:
        with turns.of("b", "a", alive=said.set):
            order.append("second")

    with ThreadPoolExecutor(1) as threads:
        with turns.of("a", "b", "a", alive=lambda: None):
            waiting = threads.submit(second)
            assert said.wait(20 * SAY_EVERY_S)
            order.append("first")
            assert len(turns) == 2
        waiting.result(20)
    assert order == ["first", "second"]
    assert len(turns) == 0


def test_a_caller_that_is_gone_while_it_waits_leaves_the_turn_to_others() -> None:
    turns = KeyTurns()

    def gone() -> None:
        raise BrokenPipeError

    def second() -> None:
        with turns.of("a", "b", alive=gone):
            pass

    with ThreadPoolExecutor(1) as threads, turns.of("b", alive=lambda: None):
        with pytest.raises(BrokenPipeError):
            threads.submit(second).result(20)
        assert len(turns) == 1
    assert len(turns) == 0
