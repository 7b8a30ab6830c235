# SPDX-License-Identifier: Apache-2.0
"""The files of a volume with nothing cached yet, as after a start."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from scrigno.volumes.files import Refused
from scrigno.volumes.marker import MARKER_NAME, Marker
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
