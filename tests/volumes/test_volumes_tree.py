# SPDX-License-Identifier: Apache-2.0
"""The files of a volume with nothing cached yet, as after a start."""

from pathlib import Path

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
