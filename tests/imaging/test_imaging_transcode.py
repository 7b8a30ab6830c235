# SPDX-License-Identifier: Apache-2.0
"""Changing the transfer syntax: no value changes, pixels are those that other tools decode."""

import asyncio
import io
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from imaging_objects import ct, encode, image, part10
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from scrigno.host.process import run
from scrigno.imaging.dataset import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.errors import DecodeFailed, UnsupportedSyntax
from scrigno.imaging.part10 import file_prefix, split
from scrigno.imaging.transcode import transcode

pytestmark = pytest.mark.spec("DN-6")
ALL = (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED_LE)
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def transcoded(content: bytes, to: str) -> bytes:
    fd = os.memfd_create("test")
    try:
        os.write(fd, content)
        out = io.BytesIO()
        offset = transcode(fd, out, to)
    finally:
        os.close(fd)
    assert split(out.getvalue()).data_offset == offset
    assert split(out.getvalue()).transfer_syntax_uid == to
    return out.getvalue()


def rich() -> Dataset:
    """Return an object with every kind of value that needs care."""
    inner = Dataset()
    inner.CodeValue = "121071"
    inner.CodeMeaning = "Befund äöü"
    item = Dataset()
    item.ConceptNameCodeSequence = Sequence([inner])
    item.ReferencedFrameNumber = "1"
    dataset = image(np.arange(-50, 50, dtype=np.int16).reshape(10, 10))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyDescription = "日本語"
    dataset.WindowCenter = ["40.50", "0300"]  # texts whose spelling a number would lose
    dataset.SmallestImagePixelValue = -50
    dataset["SmallestImagePixelValue"].VR = "SS"
    dataset.ContentSequence = Sequence([item, Dataset()])
    dataset.RecommendedDisplayFrameRateInFloat = 29.97
    dataset.FrameIncrementPointer = 0x00181063
    block = dataset.private_block(0x0009, "SCRIGNO TEST", create=True)
    block.add_new(0x01, "DS", "1.2345678901234567890")
    block.add_new(0x02, "UN", b"\1\2\3\4")
    block.add_new(0x03, "FD", 3.25)
    block.add_new(0x04, "LO", "x" * 64)
    return dataset


def elements(dataset: Dataset) -> dict[int, object]:
    found: dict[int, object] = {}
    for element in dataset:
        if element.VR == "SQ":
            found[int(element.tag)] = [elements(item) for item in element.value]
        elif element.tag != 0x7FE00010:
            found[int(element.tag)] = element.value
    return found


@pytest.mark.parametrize("start", ALL[:3])
@pytest.mark.parametrize("to", ALL)
def test_between_uncompressed_syntaxes_no_value_changes(start: str, to: str) -> None:
    dataset = rich()
    pixels = dataset.pixel_array if hasattr(dataset, "file_meta") else np.arange(-50, 50)
    if start == EXPLICIT_BE:
        dataset.PixelData = pixels.astype(">i2").tobytes()
    content = part10(dataset, start)
    made = pydicom.dcmread(io.BytesIO(transcoded(content, to)))
    original = pydicom.dcmread(io.BytesIO(content))
    ours, theirs = elements(made), elements(original)
    if IMPLICIT_LE in (start, to):  # the private dictionary is not ours: bytes stay, names go
        for number in (0x00091001, 0x00091003, 0x00091004, 0x00091002):
            ours.pop(number), theirs.pop(number)
    assert ours == theirs
    assert made["WindowCenter"].value[0].original_string == "40.50"
    assert made["SmallestImagePixelValue"].value == -50
    assert np.array_equal(made.pixel_array.ravel(), pixels.ravel())
    back = pydicom.dcmread(io.BytesIO(transcoded(transcoded(content, to), EXPLICIT_LE)))
    assert back.private_block(0x0009, "SCRIGNO TEST")[0x02].value == b"\1\2\3\4"


def test_explicit_to_implicit_and_back_gives_the_same_bytes() -> None:
    dataset = ct(StudyDescription="x", WindowCenter="1", Rows=3)
    content = part10(dataset)
    assert transcoded(transcoded(content, IMPLICIT_LE), EXPLICIT_LE) == content
    assert transcoded(transcoded(content, EXPLICIT_BE), EXPLICIT_LE) == content
    assert transcoded(content, EXPLICIT_LE) == content


def test_values_that_a_library_would_refuse_pass_untouched() -> None:
    dataset = ct()
    data = encode(dataset)
    data += b"\x28\0\x30\0DS\x10\0not a number at "  # Pixel Spacing
    data += b"\x28\0\x50\x10DS\x05\0odd !"
    uids = {"sop_class_uid": dataset.SOPClassUID, "sop_instance_uid": "1.2.3.4"}
    made = transcoded(file_prefix(**uids, transfer_syntax_uid=EXPLICIT_LE) + data, IMPLICIT_LE)
    assert b"not a number at " in made
    assert made.endswith(b"\x28\0\x50\x10\x05\0\0\0odd !")


def test_a_text_too_long_for_its_explicit_length_becomes_un() -> None:
    dataset = ct()
    data = encode(dataset, IMPLICIT_LE) + b"\x40\0\0\xa1\xf0\xff\x01\0" + b"y" * 0x1FFF0
    data = data.replace(b"\x40\0\0\xa1", b"\x20\0\0\x40")  # (0020,4000), LT
    uids = {"sop_class_uid": dataset.SOPClassUID, "sop_instance_uid": "1.2.3.4"}
    made = transcoded(file_prefix(**uids, transfer_syntax_uid=IMPLICIT_LE) + data, EXPLICIT_LE)
    assert made.endswith(b"UN\0\0\xf0\xff\x01\0" + b"y" * 0x1FFF0)


def test_objects_without_pixels_transcode_too() -> None:
    for name in ("test-SR.dcm", "rtplan.dcm", "rtstruct.dcm"):
        path = TEST_FILES / name
        if not path.exists():
            continue
        content = path.read_bytes()
        made = pydicom.dcmread(io.BytesIO(transcoded(content, EXPLICIT_LE)), force=True)
        assert made.SOPInstanceUID == pydicom.dcmread(path, force=True).SOPInstanceUID


def rle(dataset: Dataset) -> bytes:
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT_LE
    dataset.set_original_encoding(False, True)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_decompressing_keeps_what_the_object_says_and_who_it_is() -> None:
    pixels = np.random.default_rng(4).integers(-2000, 2000, (5, 33, 31)).astype(np.int16)
    content = rle(image(pixels, LossyImageCompression="00", DerivationDescription="none"))
    for to in ALL:
        made = pydicom.dcmread(io.BytesIO(transcoded(content, to)))
        assert np.array_equal(made.pixel_array, pixels)
        assert made.SOPInstanceUID == "1.2.3.4"
        assert made.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
        assert (made.LossyImageCompression, made.DerivationDescription) == ("00", "none")
        assert made.BitsStored == 16
        assert len(made.PixelData) % 2 == 0


def test_colour_by_plane_becomes_colour_by_pixel() -> None:
    colours = np.random.default_rng(5).integers(0, 255, (7, 9, 3), np.uint8)
    dataset = pydicom.dcmread(io.BytesIO(rle(image(colours))))
    dataset.PlanarConfiguration = 1  # what writers of RLE say
    out = io.BytesIO()
    dataset.save_as(out)
    content = out.getvalue()
    made = pydicom.dcmread(io.BytesIO(transcoded(content, EXPLICIT_LE)))
    assert (made.PhotometricInterpretation, made.PlanarConfiguration) == ("RGB", 0)
    assert np.array_equal(made.pixel_array, colours)
    assert made["PixelData"].VR == "OB"
    assert len(made.PixelData) == colours.size + 1


def test_a_lossy_syntax_leaves_its_mark_and_becomes_rgb() -> None:
    content = (TEST_FILES / "SC_rgb_jpeg_dcmtk.dcm").read_bytes()
    original = pydicom.dcmread(io.BytesIO(content))
    made = pydicom.dcmread(io.BytesIO(transcoded(content, EXPLICIT_LE)))
    assert made.PhotometricInterpretation == "RGB"
    assert made.LossyImageCompression == "01"
    assert made.SOPInstanceUID == original.SOPInstanceUID
    assert np.array_equal(made.pixel_array, pixel_array(io.BytesIO(content)))


def test_a_lossy_syntax_that_forgot_to_say_so_is_marked() -> None:
    dataset = pydicom.dcmread(TEST_FILES / "SC_rgb_jpeg_dcmtk.dcm")
    del dataset.LossyImageCompression
    out = io.BytesIO()
    dataset.save_as(out)
    made = pydicom.dcmread(io.BytesIO(transcoded(out.getvalue(), IMPLICIT_LE)))
    assert made.LossyImageCompression == "01"
    tags = [element.tag for element in made]
    assert tags == sorted(tags)


def test_an_offset_table_goes_with_the_compression() -> None:
    content = rle(image(np.zeros((2, 8, 8), np.uint16)))
    dataset = pydicom.dcmread(io.BytesIO(content))
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=2))
    body, offsets, lengths = pydicom.encaps.encapsulate_extended(frames)
    dataset.PixelData, dataset.ExtendedOffsetTable = body, offsets
    dataset.ExtendedOffsetTableLengths = lengths
    out = io.BytesIO()
    dataset.save_as(out)
    made = pydicom.dcmread(io.BytesIO(transcoded(out.getvalue(), EXPLICIT_LE)))
    assert "ExtendedOffsetTable" not in made
    assert "ExtendedOffsetTableLengths" not in made
    assert made.pixel_array.shape == (2, 8, 8)


def test_what_cannot_be_is_refused_in_words() -> None:
    content = part10(rich())
    with pytest.raises(UnsupportedSyntax, match="not compressed"):
        transcoded(content, "1.2.840.10008.1.2.4.90")
    with pytest.raises(DecodeFailed, match="ends too early"):
        transcoded(content[:-7], IMPLICIT_LE)
    broken = rle(image(np.zeros((3, 8, 8), np.uint16)))
    dataset = pydicom.dcmread(io.BytesIO(broken))
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData = encapsulate(frames[:2])
    out = io.BytesIO()
    dataset.save_as(out)
    with pytest.raises(DecodeFailed):
        transcoded(out.getvalue(), EXPLICIT_LE)


# real file -> the tool whose native pixels must be ours, and by how much they may differ
PEERS = {
    "cornerstone/JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm": ("dcmdjpeg", 0),
    "cornerstone/JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm": ("dcmdjpls", 0),
    "cornerstone/JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": ("dcmdjpls", 0),
    "cornerstone/RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": ("dcmdrle", 0),
    "cornerstone/JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm": ("gdcmconv", 0),
    "cornerstone/JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": ("gdcmconv", 1),
    "pydicom/test_files/SC_rgb_dcmtk__eb_cy_s2.dcm": ("dcmdjpeg", 4),
    "pydicom/test_files/SC_rgb_jpeg_dcmtk.dcm": ("dcmdjpeg", 3),
    "pydicom-data/emri_small_jpeg_ls_lossless.dcm": ("dcmdjpls", 0),
    "dcm4che/YBR_FULL-RLE.dcm": ("dcmdrle", 0),
}


@pytest.mark.parametrize("name", PEERS)
async def test_real_files_decompress_to_the_pixels_of_other_tools(
    real_data: Path | None, tmp_path: Path, name: str
) -> None:
    tool, most = PEERS[name]
    program = Path("/usr/bin") / tool
    if real_data is None or not program.exists() or not (real_data / name).exists():
        pytest.skip("the file or the tool is not on this machine")
    path, out = real_data / name, tmp_path / "out.dcm"
    options = ["--raw"] if tool == "gdcmconv" else []
    done = await run([str(program), *options, str(path), str(out)], timeout_s=30)
    assert done.returncode == 0, done.stderr
    theirs = pydicom.dcmread(out)
    content = await asyncio.to_thread(transcoded, path.read_bytes(), EXPLICIT_LE)
    ours = pydicom.dcmread(io.BytesIO(content))
    for keyword in ("Rows", "Columns", "BitsStored", "SamplesPerPixel", "SOPInstanceUID"):
        assert ours.get(keyword) == theirs.get(keyword)
    assert ours.PhotometricInterpretation == theirs.PhotometricInterpretation
    difference = np.abs(ours.pixel_array.astype(int) - theirs.pixel_array.astype(int))
    assert difference.max() <= most
