# SPDX-License-Identifier: Apache-2.0
"""Files and folders of this machine."""

import os
import shutil
from pathlib import Path

import pydicom.data
import pytest
from archivebox import Box, Made, made

from scrigno.archive.importer import ImportReport
from scrigno.archive.sources import OpenFile

MEDIA = Path(pydicom.data.get_testdata_file("DICOMDIR", read=False)).parent


def write(folder: Path, name: str, one: Made, *, meta: bool = True) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(one.file if meta else one.data)
    return path


def codes(report: ImportReport) -> dict[str, str]:
    return {Path(refused.path).name: refused.code for refused in report.refused}


@pytest.mark.spec("DN-4")
async def test_a_folder_is_imported_with_a_reason_for_every_file_left_out(
    box: Box, tmp_path: Path
) -> None:
    folder = tmp_path / "stick"
    write(folder, "a.dcm", made(1))
    write(folder, "no extension", made(2))
    write(folder, "deep/er/b.dcm", made(3))
    write(folder, "bare", made(4), meta=False)
    write(folder, "twice.dcm", made(1))
    write(folder, "rival.dcm", made(1, PatientName="Other^Name"))
    (folder / "readme.txt").write_text("hello")
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    seen: list[tuple[int, int]] = []
    report = await box.importer.import_paths(
        [folder], progress=lambda done, found: seen.append((done, found))
    )
    assert (report.new, report.same, report.conflict) == (4, 1, 1)
    assert codes(report) == {
        "readme.txt": "not-dicom",
        "empty": "not-dicom",
        "link": "not-readable",
    }
    assert report.done == report.found == 9
    assert seen[-1] == (9, 9)
    assert all(refused.reason for refused in report.refused)
    row = await box.catalogue.instance(made(3).uid)
    assert row.digest == made(3).digest


async def test_without_recursion_only_the_folder_itself_is_read(box: Box, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    write(folder, "a.dcm", made(1))
    write(folder, "deep/b.dcm", made(2))
    report = await box.importer.import_paths([folder], recursive=False)
    assert (report.found, report.new) == (1, 1)


async def test_single_files_and_names_that_do_not_exist(box: Box, tmp_path: Path) -> None:
    one = write(tmp_path / "stick", "a.dcm", made(1))
    report = await box.importer.import_paths([one, tmp_path / "nowhere"], user="anna")
    assert (report.new, codes(report)) == (1, {"nowhere": "not-readable"})


async def test_the_data_set_is_kept_byte_for_byte_and_the_meta_is_ours(
    box: Box, tmp_path: Path
) -> None:
    one = made(1)
    foreign = bytearray(one.file)
    foreign[:128] = b"x" * 128  # somebody else's preamble
    path = tmp_path / "foreign.dcm"
    path.write_bytes(foreign)
    await box.importer.import_paths([path])
    assert box.on("data")[one.key] == one.file


async def test_a_file_meta_about_another_object_is_not_believed(box: Box, tmp_path: Path) -> None:
    one = made(1)
    path = tmp_path / "wrong.dcm"
    path.write_bytes(made(2).file[: -len(made(2).data)] + one.data)
    report = await box.importer.import_paths([path])
    assert report.new == 1
    assert await box.catalogue.instance(one.uid) is not None


async def test_a_file_over_the_limit_is_refused_by_name(box: Box, tmp_path: Path) -> None:
    box.change(max_object_bytes=1 << 20)
    write(tmp_path / "stick", "big", made(1, pixels=6 << 20))
    write(tmp_path / "stick", "small", made(2))
    report = await box.importer.import_paths([tmp_path / "stick"])
    assert codes(report) == {"big": "object-too-large"}
    assert report.new == 1


async def test_a_damaged_file_with_valid_uids_is_kept_aside(box: Box, tmp_path: Path) -> None:
    one = made(1)
    path = tmp_path / "cut.dcm"
    path.write_bytes(one.file[: len(one.file) - len(one.data) + 60])
    report = await box.importer.import_paths([path])
    assert report.unreadable_kept == 1


async def test_an_import_can_be_cancelled(box: Box, tmp_path: Path) -> None:
    for number in range(1, 30):
        write(tmp_path / "stick", f"{number}.dcm", made(number))
    done: list[int] = []
    report = await box.importer.import_paths(
        [tmp_path / "stick"],
        progress=lambda count, _: done.append(count),
        cancelled=lambda: len(done) >= 5,
    )
    assert report.cancelled
    assert 5 <= report.new < 20
    assert (await box.catalogue.totals()).instances == report.new


async def test_a_dicomdir_names_the_files_of_its_folder(box: Box, tmp_path: Path) -> None:
    shutil.copytree(MEDIA, tmp_path / "disc")
    report = await box.importer.import_paths([tmp_path / "disc" / "DICOMDIR"])
    assert report.new == 31
    assert (await box.catalogue.totals()).instances == 31
    again = await box.importer.import_paths([tmp_path / "disc"], recursive=True)
    assert again.same == 31
    assert "DICOMDIR" not in codes(again)


async def test_a_dicomdir_cannot_lead_out_of_its_folder(box: Box, tmp_path: Path) -> None:
    shutil.copytree(MEDIA, tmp_path / "disc")
    outside = write(tmp_path, "secret.dcm", made(1))
    shutil.rmtree(tmp_path / "disc" / "77654033")
    (tmp_path / "disc" / "77654033").symlink_to(tmp_path)
    shutil.copy(outside, tmp_path / "CR1")
    report = await box.importer.import_paths([tmp_path / "disc" / "DICOMDIR"])
    assert await box.catalogue.instance(made(1).uid) is None
    assert all("not there" in refused.reason for refused in report.refused)
    assert report.refused


async def test_a_dicomdir_finds_files_whatever_the_case_of_their_names(
    box: Box, tmp_path: Path
) -> None:
    shutil.copytree(MEDIA, tmp_path / "disc")
    for path in sorted((tmp_path / "disc").rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    report = await box.importer.import_paths([tmp_path / "disc" / "dicomdir"])
    assert report.new == 31


async def test_a_dicomdir_that_is_none_and_one_under_another_name(box: Box, tmp_path: Path) -> None:
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "DICOMDIR").write_bytes(b"no directory")
    shutil.copy(MEDIA / "DICOMDIR", tmp_path / "disc" / "index.dcm")
    report = await box.importer.import_paths(
        [tmp_path / "disc" / "DICOMDIR", tmp_path / "disc" / "index.dcm"]
    )
    assert codes(report) == {"DICOMDIR": "not-dicom"}
    assert report.directories == 1


async def test_a_folder_that_cannot_be_read_is_told(box: Box, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    report = await box.importer.import_paths([folder])
    assert codes(report) == {"closed": "not-readable"}


def test_a_pipe_is_no_file_to_import(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        OpenFile(tmp_path / "pipe")


@pytest.mark.spec("DN-4")
async def test_what_pydicom_ships_is_imported_or_refused_in_words(box: Box) -> None:
    folder = Path(pydicom.data.get_testdata_file("CT_small.dcm", read=False)).parent
    report = await box.importer.import_paths([folder], recursive=False)
    assert report.done == report.found > 60
    # many of them share the UID of their original and differ in their encoding
    assert report.new > 30
    assert report.new + report.same + report.conflict > 60
    assert {refused.code for refused in report.refused} <= {"not-dicom", "object-unreadable"}
