# SPDX-License-Identifier: Apache-2.0
"""DCMTK's echoscu and storescu send; what stands on the volume is what was sent, byte for byte."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from made_objects import write_series
from running_node import RunningNode, data_set_bytes, receiver_running, run, running_node


@pytest.mark.spec("DN-4")
async def test_echoscu_is_answered(box: RunningNode) -> None:
    await box.tool("echoscu")
    await box.tool("echoscu", "--repeat", "5", "-pts", "20")


def bundled(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


# storescu's proposal, what makes storescp take the same syntax, and a file that needs no decoding
PROPOSALS = [
    ("-xe", "+xe", "CT_small.dcm"),
    ("-xb", "+xb", "CT_small.dcm"),
    ("-xi", "+xi", "CT_small.dcm"),
    ("-xi", "+xi", "MR_small_implicit.dcm"),
    ("-xb", "+xb", "MR_small_bigendian.dcm"),
    ("-xd", "+xd", "image_dfl.dcm"),
    ("-xy", "+xy", "SC_rgb_jpeg_dcmtk.dcm"),
    ("-xx", "+xx", "JPEG-lossy.dcm"),
    ("-xs", "+xs", "SC_rgb_jpeg_gdcm.dcm"),
    ("-xt", "+xt", "MR_small_jpeg_ls_lossless.dcm"),
    ("-xv", "+xv", "MR_small_jp2klossless.dcm"),
    ("-xw", "+xw", "JPEG2000.dcm"),
    ("-xr", "+xr", "MR_small_RLE.dcm"),
]


@pytest.mark.spec("DN-4")
@pytest.mark.parametrize(("proposal", "preference", "name"), PROPOSALS)
@pytest.mark.parametrize("combined", [False, True])
async def test_each_proposal_of_storescu_is_stored_as_dcmtks_own_receiver_stores_it(
    tmp_path: Path, proposal: str, preference: str, name: str, combined: bool
) -> None:
    options = (proposal, "+C", "-R") if combined else (proposal, "-R")
    path = bundled(name)
    uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    async with (
        running_node(tmp_path / "box") as box,
        receiver_running(tmp_path / "received", preference) as receiver,
    ):
        await box.tool("storescu", *options, str(path))
        await run(
            "storescu", *options, "-aec", "RECEIVER", "127.0.0.1", str(receiver.port), str(path)
        )
        ours, theirs = box.stored_file(uid), receiver.files[uid]
        assert data_set_bytes(ours) == data_set_bytes(theirs)
        meta = dcmread(ours, stop_before_pixels=True).file_meta
        expected = dcmread(theirs, stop_before_pixels=True).file_meta
        assert meta.TransferSyntaxUID == expected.TransferSyntaxUID


@pytest.mark.spec("DN-4", "ST-10")
async def test_a_series_is_stored_as_sent_and_a_second_delivery_is_the_same_object(
    box: RunningNode, tmp_path: Path
) -> None:
    paths = write_series(tmp_path / "sent", images=5)
    for _ in range(2):
        await box.tool("storescu", *map(str, paths.values()))
    for uid, path in paths.items():
        assert data_set_bytes(box.stored_file(uid)) == data_set_bytes(path)
    assert (await box.catalogue.totals()).instances == 5
    assert box.counters.value("dicom_store", outcome="new") == 5
    assert box.counters.value("dicom_store", outcome="same") == 5


@pytest.mark.spec("DN-4")
async def test_every_file_that_pydicom_ships_and_dcmtk_can_send_is_stored(
    box: RunningNode,
) -> None:
    folder = bundled("CT_small.dcm").parent
    sent = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        except Exception:
            continue
        done = await box.tool("storescu", "-R", str(path), check=False)
        sent += not done.code
        assert "Refused" not in done.output, (path.name, uid, done.output)
    assert sent > 20
