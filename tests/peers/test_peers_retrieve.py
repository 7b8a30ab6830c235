# SPDX-License-Identifier: Apache-2.0
"""DCMTK's movescu and getscu retrieve; what arrives is what was sent, byte for byte."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from made_objects import write_series
from running_node import Receiver, RunningNode, data_set_bytes, receiver_running
from scrigno.settings.schema import Peer, PeerState


async def stored_series(
    box: RunningNode, folder: Path, *, images: int, patient: int = 0
) -> tuple[str, dict[str, Path]]:
    """Store a series; returns its study and the files by SOP Instance UID."""
    paths = write_series(folder, images=images, patient=patient)
    await box.tool("storescu", *map(str, paths.values()))
    study = dcmread(next(iter(paths.values())), stop_before_pixels=True).StudyInstanceUID
    return str(study), paths


def move(*keys: str, model: str = "-S", to: str = "RECEIVER") -> list[str]:
    return ["-aem", to, model, "-d", *(part for key in keys for part in ("-k", key))]


@pytest.mark.spec("DN-6")
async def test_movescu_gets_at_each_level_what_was_stored(
    box: RunningNode, receiver: Receiver, tmp_path: Path
) -> None:
    study, paths = await stored_series(box, tmp_path / "sent", images=3)
    first = dcmread(next(iter(paths.values())), stop_before_pixels=True)
    series, image = str(first.SeriesInstanceUID), str(first.SOPInstanceUID)
    await stored_series(box, tmp_path / "other", images=1, patient=1)
    for keys, model, expected in (
        (("QueryRetrieveLevel=PATIENT", "PatientID=IT-001"), "-P", 3),
        (("QueryRetrieveLevel=PATIENT", "PatientID=IT-*"), "-P", 0),
        (("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}"), "-S", 3),
        (("QueryRetrieveLevel=STUDY", "PatientID=IT-001", f"StudyInstanceUID={study}"), "-O", 3),
        (("QueryRetrieveLevel=STUDY", "PatientID=KR-3", f"StudyInstanceUID={study}"), "-P", 0),
        (
            (
                "QueryRetrieveLevel=SERIES",
                f"StudyInstanceUID={study}",
                f"SeriesInstanceUID={series}",
            ),
            "-S",
            3,
        ),
        (
            (
                "QueryRetrieveLevel=IMAGE",
                f"StudyInstanceUID={study}",
                f"SeriesInstanceUID={series}",
                f"SOPInstanceUID={image}",
            ),
            "-S",
            1,
        ),
    ):
        await box.tool("movescu", *move(*keys, model=model))
        received = receiver.files
        assert len(received) == expected, keys
        for uid, path in received.items():
            assert data_set_bytes(path) == data_set_bytes(paths[uid])
            path.unlink()


@pytest.mark.spec("DN-6")
async def test_every_transfer_syntax_comes_back_as_it_was_stored(
    box: RunningNode, receiver: Receiver
) -> None:
    sent = {}
    for option, name in (
        ("-xe", "CT_small.dcm"),
        ("-xi", "MR_small_implicit.dcm"),
        ("-xd", "image_dfl.dcm"),
        ("-xy", "SC_rgb_jpeg_dcmtk.dcm"),
        ("-xs", "SC_rgb_jpeg_gdcm.dcm"),
        ("-xt", "MR_small_jpeg_ls_lossless.dcm"),
        ("-xw", "JPEG2000.dcm"),
        ("-xr", "MR_small_RLE.dcm"),
    ):
        path = str(get_testdata_file(name, download=False))
        await box.tool("storescu", option, "-R", path)
        stored = dcmread(path, stop_before_pixels=True)
        uid = str(stored.SOPInstanceUID)
        sent[uid] = data_set_bytes(box.stored_file(uid))
        await box.tool(
            "movescu",
            *move("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={stored.StudyInstanceUID}"),
        )
    for uid, content in sent.items():
        assert data_set_bytes(receiver.files[uid]) == content, uid


@pytest.mark.spec("DN-6")
async def test_getscu_gets_what_was_stored(box: RunningNode, tmp_path: Path) -> None:
    study, paths = await stored_series(box, tmp_path / "sent", images=4)
    folder = tmp_path / "got"
    folder.mkdir()
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    await box.tool("getscu", "-S", "+B", "-od", str(folder), *keys)
    got = {path.name: path for path in folder.iterdir()}
    assert got.keys() == paths.keys()
    for uid, path in got.items():
        assert data_set_bytes(path) == data_set_bytes(paths[uid])


@pytest.mark.spec("DN-6")
async def test_a_peer_that_takes_no_compression_gets_the_object_decoded(
    box: RunningNode, tmp_path: Path
) -> None:
    path = str(get_testdata_file("MR_small_RLE.dcm", download=False))
    await box.tool("storescu", "-xr", "-R", path)
    original = dcmread(path)
    async with receiver_running(tmp_path / "plain") as plain:  # uncompressed syntaxes only
        await box.change(peers=(plain.peer(),))
        await box.tool(
            "movescu",
            *move("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={original.StudyInstanceUID}"),
        )
        (received,) = [dcmread(each) for each in plain.files.values()]
    assert received.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (received.pixel_array == original.pixel_array).all()
    assert received.SOPInstanceUID == original.SOPInstanceUID


@pytest.mark.spec("DN-6")
async def test_a_move_to_somebody_unknown_or_unapproved_is_refused(
    box: RunningNode, receiver: Receiver
) -> None:
    keys = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3")
    done = await box.tool("movescu", *move(*keys, to="NOBODY"), check=False)
    assert "0xa801" in done.output.lower()
    blocked = Peer(
        name="blocked",
        ae_title="BLOCKED",
        host="127.0.0.1",
        port=receiver.port,
        state=PeerState.BLOCKED,
    )
    await box.change(peers=(receiver.peer(), blocked))
    done = await box.tool("movescu", *move(*keys, to="BLOCKED"), check=False)
    assert "0xa801" in done.output.lower()


@pytest.mark.spec("DN-6")
async def test_a_move_to_a_node_that_is_off_fails_with_every_uid(
    box: RunningNode, tmp_path: Path
) -> None:
    study, paths = await stored_series(box, tmp_path / "sent", images=3)
    await box.change(peers=(Peer(name="off", ae_title="OFF", host="127.0.0.1", port=1),))
    keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}")
    done = await box.tool("movescu", *move(*keys, to="OFF"), check=False)
    assert "0xa702" in done.output.lower()
    for uid in paths:
        assert uid in done.output


@pytest.mark.spec("DN-6")
async def test_an_object_whose_copies_cannot_be_read_is_counted_failed_and_never_sent_wrong(
    box: RunningNode, receiver: Receiver, tmp_path: Path
) -> None:
    study, paths = await stored_series(box, tmp_path / "sent", images=4)
    damaged, gone, *_ = paths
    content = bytearray(box.stored_file(damaged).read_bytes())
    content[-10] ^= 0xFF
    box.stored_file(damaged).chmod(0o600)
    box.stored_file(damaged).write_bytes(content)
    box.stored_file(gone).unlink()
    keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}")
    done = await box.tool("movescu", *move(*keys), check=False)
    assert "0xb000" in done.output.lower()
    assert receiver.files.keys() == paths.keys() - {damaged, gone}
    for uid, path in receiver.files.items():
        assert data_set_bytes(path) == data_set_bytes(paths[uid])
