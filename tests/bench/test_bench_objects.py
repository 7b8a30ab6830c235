# SPDX-License-Identifier: Apache-2.0
"""The images that the benchmarks send are whole DICOM objects, and no UID is sent twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom

from bench import objects

if TYPE_CHECKING:
    from pathlib import Path


def test_ct_images_are_half_a_megabyte_of_one_study_with_distinct_uids(tmp_path: Path) -> None:
    made = objects.make_ct(tmp_path / "ct", 5)
    seen = [pydicom.dcmread(path) for path in made.folder.rglob("*.dcm")]
    assert len({ds.SOPInstanceUID for ds in seen}) == 5
    assert {str(ds.StudyInstanceUID) for ds in seen} == {made.study}
    assert all(ds.pixel_array.shape == (512, 512) for ds in seen)
    assert all(ds.private_block(0x0029, "BENCH CSA HEADER") for ds in seen)


def test_mr_images_are_between_forty_and_a_hundred_and_forty_kilobytes(tmp_path: Path) -> None:
    made = objects.make_mr(tmp_path / "mr", 8)
    assert all(40_000 < size < 140_000 for size in made.sizes())


def test_four_associations_send_disjoint_parts_that_make_up_the_whole(tmp_path: Path) -> None:
    made = objects.make_mr(tmp_path / "mr", 10)
    for associations in (1, 2, 4):
        parts = made.parts(associations)
        sent = [path for part in parts for folder in part for path in folder.glob("*.dcm")]
        assert len(parts) == associations
        assert len(sent) == len(set(sent)) == 10


def test_a_multi_frame_object_is_whole_and_takes_no_room_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    objects.make_multi_frame(path, 8 << 20)
    assert path.stat().st_blocks * 512 < 1 << 20
    assert pydicom.dcmread(path).pixel_array.shape == (4, 1024, 1024)
