# SPDX-License-Identifier: Apache-2.0
"""Folders without a way out, archives that bite, disc images and what a DICOMDIR promises."""

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pycdlib
import pydicom.data
import pytest

from scrigno.archive.import_errors import (
    ArchiveDangerous,
    FileRefused,
    PlaceNotAllowed,
    SourceGone,
    SourceRefused,
)
from scrigno.archive.import_iso import IsoTree
from scrigno.archive.import_plan import ordered, read_plan, write_plan
from scrigno.archive.import_trees import FolderTree, Places, Tree
from scrigno.archive.import_zip import ZipTree
from scrigno.archive.sources import OpenFile
from scrigno.imaging.fileset_images import listing_of

Opened = Callable[[Path], ZipTree]
MEDIA = Path(pydicom.data.get_testdata_file("DICOMDIR", read=False)).parent


def places(root: Path, *ours: Path) -> Places:
    return Places(roots=(root,), ours=ours)


def zipped(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def opened() -> Iterator[Callable[[Path], ZipTree]]:
    """Open archives and close them at the end."""
    trees: list[ZipTree] = []

    def make(path: Path) -> ZipTree:
        trees.append(ZipTree(lambda: path.open("rb")))
        return trees[-1]

    yield make
    for tree in trees:
        tree.close()


def content(tree: Tree, ref: object) -> bytes:
    file = tree.open(ref)
    try:
        found = b""
        while chunk := file.read(len(found), 1000):
            found += chunk
        return found
    finally:
        file.close()


def names(tree: Tree) -> list[str]:
    return [entry.name for entry in ordered(tree)]


@pytest.mark.spec("AD-4")
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "relative",
        "/allowed/../etc",
        "/allowedx",
        "/",
        "",
        "/allowed/\0",
        "/a" * 3000,
    ],
)
def test_a_path_outside_the_allowed_folders_is_refused(path: str) -> None:
    with pytest.raises(PlaceNotAllowed):
        places(Path("/allowed")).require(path)


def test_what_belongs_to_the_box_is_refused_and_left_out_of_the_walk(tmp_path: Path) -> None:
    (tmp_path / "volume" / "studies").mkdir(parents=True)
    (tmp_path / "volume" / "studies" / "a.dcm").write_bytes(b"x")
    (tmp_path / "b.dcm").write_bytes(b"x")
    allowed = places(tmp_path, tmp_path / "volume")
    with pytest.raises(PlaceNotAllowed):
        allowed.require(str(tmp_path / "volume" / "studies"))
    assert names(FolderTree(allowed, tmp_path, recursive=True)) == ["b.dcm"]


@pytest.mark.spec("AD-4")
def test_links_lead_nowhere_also_when_they_come_after_the_look(tmp_path: Path) -> None:
    stick, secret = tmp_path / "stick", tmp_path / "secret"
    (stick / "deep").mkdir(parents=True)
    secret.mkdir()
    (secret / "a.dcm").write_bytes(b"secret")
    (stick / "deep" / "a.dcm").write_bytes(b"honest")
    (stick / "link").symlink_to(secret / "a.dcm")
    (stick / "folder").symlink_to(secret)
    os.mkfifo(stick / "pipe")
    tree = FolderTree(places(stick), stick, recursive=True)
    found = {entry.name: entry.code for entry in ordered(tree)}
    assert found == {"link": "is-link", "folder": "is-link", "deep/a.dcm": ""}
    assert content(tree, ["deep", "a.dcm"]) == b"honest"
    (stick / "deep" / "a.dcm").unlink()
    (stick / "deep" / "a.dcm").symlink_to(secret / "a.dcm")
    with pytest.raises(OSError, match="symbolic links"):
        tree.open(["deep", "a.dcm"])
    (stick / "deep" / "a.dcm").unlink()
    (stick / "deep").rmdir()
    (stick / "deep").symlink_to(secret)
    with pytest.raises(OSError, match="Not a directory"):
        tree.open(["deep", "a.dcm"])
    for ref in (["..", "secret", "a.dcm"], ["deep/../../secret/a.dcm"], ["/etc/passwd"]):
        with pytest.raises((OSError, FileRefused)):
            tree.open(ref)


def test_a_stick_that_is_pulled_is_noticed(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    tree = FolderTree(places(tmp_path), stick, recursive=True)
    tree.require_there()
    stick.rename(tmp_path / "other")
    with pytest.raises(SourceGone):
        tree.require_there()
    stick.mkdir()
    with pytest.raises(SourceGone):
        tree.require_there()


@pytest.mark.spec("AD-4")
def test_a_dicomdir_is_followed_first_then_the_rest_and_what_is_missing_is_told(
    tmp_path: Path,
) -> None:
    disc = tmp_path / "disc"
    for path in [*MEDIA.joinpath("77654033").rglob("*"), MEDIA / "DICOMDIR"]:
        if path.is_file():
            target = disc / path.relative_to(MEDIA)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (disc / "AUTORUN.EXE").write_bytes(b"MZ")
    (disc / "77654033" / "extra.dcm").write_bytes(b"x")
    entries = list(ordered(FolderTree(places(tmp_path), disc, recursive=True)))
    found = [entry.name for entry in entries if not entry.code]
    missing = [entry for entry in entries if entry.code]
    assert found[0] == "DICOMDIR"
    assert len(found) == len(set(found))
    assert {entry.code for entry in missing} == {"missing"}
    assert len(missing) == 24
    assert found[8:] == ["AUTORUN.EXE", "77654033/extra.dcm"]


@pytest.mark.spec("AD-4")
def test_names_of_an_archive_never_become_paths(tmp_path: Path, opened: Opened) -> None:
    files = {"../../evil.dcm": b"one", "/etc/passwd": b"two", "a\\..\\b.dcm": b"three", "c": b"4"}
    tree = opened(zipped(tmp_path / "slip.zip", files))
    entries = {entry.name: entry for entry in ordered(tree)}
    assert set(entries) == {"../../evil.dcm", "etc/passwd", "a/../b.dcm", "c"}
    assert content(tree, entries["../../evil.dcm"].ref) == b"one"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["slip.zip"]


@pytest.mark.spec("AD-4")
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w", force_zip64=True) as file,
    ):
        for _ in range(1100):
            file.write(bytes(1 << 20))
    with pytest.raises(ArchiveDangerous, match="would unpack"):
        opened(path)


def test_an_archive_whose_files_lie_over_each_other_is_refused(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "overlap.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"x" * 5000)
        archive.writestr("b", b"y" * 10)
    data = bytearray(buffer.getvalue())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<L", 20)  # b begins inside a
    path.write_bytes(data)
    with pytest.raises(SourceRefused):
        opened(path)


def test_an_archive_that_promises_too_many_files_is_refused_before_it_is_read(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "many.zip"
    zipped(path, {"a": b"x"})
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<L", 0xF0000000)
    path.write_bytes(data)
    with pytest.raises(ArchiveDangerous):
        opened(path)


def test_a_file_that_holds_more_than_the_archive_promised_ends_there(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "liar.zip"
    zipped(path, {"a": b"x" * 100_000})
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 500)
    path.write_bytes(data)
    tree = opened(path)
    [listed] = ordered(tree)
    with pytest.raises(FileRefused):  # and never more than 500 bytes of it
        assert len(content(tree, listed.ref)) <= 500


@pytest.mark.spec("AD-4")
def test_an_encrypted_or_damaged_archive_is_refused_in_words(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "secret.zip"
    zipped(path, {"a": b"x"})
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(SourceRefused, match="encrypted"):
        opened(path)
    for broken in (b"", b"PK\x03\x04", bytes(data[:-10])):
        path.write_bytes(broken)
        with pytest.raises(SourceRefused):
            opened(path)


def test_a_file_damaged_inside_an_archive_is_told_and_the_others_are_read(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "half.zip"
    files = {"a": os.urandom(5000), "b": os.urandom(5000)}
    zipped(path, files, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.find(files["a"]) + 2500] ^= 0xFF
    path.write_bytes(data)
    tree = opened(path)
    first, second = ordered(tree)
    with pytest.raises(FileRefused):
        content(tree, first.ref)
    assert content(tree, second.ref) == files["b"]


def image(path: Path, files: dict[str, bytes]) -> Path:
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=1, joliet=3, vol_ident="DISC")
    folders = {str(Path(name).parent) for name in files} - {"/"}
    for folder in sorted(folders):
        iso.add_directory(folder, joliet_path=folder)
    for name, data in files.items():
        iso.add_fp(io.BytesIO(data), len(data), f"{name}.;1", joliet_path=name)
    iso.write(str(path))
    iso.close()
    return path


def iso_tree(path: Path) -> IsoTree:
    fd = os.open(path, os.O_RDONLY)
    try:
        return IsoTree(OpenFile(path), listing_of(fd))
    finally:
        os.close(fd)


@pytest.mark.spec("AD-4")
def test_a_disc_image_is_read_where_it_stands(tmp_path: Path) -> None:
    files = {"/A": b"one" * 1000, "/DICOM/IM1": b"two" * 3000, "/DICOM/EMPTY": b""}
    tree = iso_tree(image(tmp_path / "disc.iso", files))
    entries = {"/" + entry.name: entry for entry in ordered(tree)}
    assert set(entries) == set(files)
    assert {name: content(tree, entry.ref) for name, entry in entries.items()} == files
    tree.close()


def test_an_image_that_is_cut_short_says_so_for_each_file(tmp_path: Path) -> None:
    path = image(tmp_path / "disc.iso", {"/A": b"one" * 1000, "/B": os.urandom(500_000)})
    whole = iso_tree(path)
    offset, _ = next(entry.ref for entry in ordered(whole) if entry.name == "B")
    whole.close()
    os.truncate(path, offset + 1000)
    cut = iso_tree(path)
    assert {entry.name: entry.code for entry in ordered(cut)} == {"A": "", "B": "damaged"}
    cut.close()


def test_the_plan_can_be_read_from_any_line(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    for number in range(25):
        (stick / f"{number:03}").write_bytes(b"x")
    (stick / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    tree = FolderTree(places(tmp_path), stick, recursive=True)
    heard: list[int] = []
    total = write_plan(tmp_path / "plan", tree, lambda count: heard.append(count) is None)
    assert total == 26
    first = read_plan(tmp_path / "plan", 0, 10)
    rest = read_plan(tmp_path / "plan", first[-1].end, 100)
    assert [line.name for line in first + rest][:25] == [f"{number:03}" for number in range(25)]
    assert content(tree, rest[-1].ref) == b"x"
    assert rest[-1].name == "caf\\udce9"
