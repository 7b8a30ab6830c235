# SPDX-License-Identifier: Apache-2.0
"""Stored pixels of every kind, as arrays: made here, or of the files that pydicom brings."""

import struct
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from imaging_objects import image, opened, part10
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended

from scrigno.imaging.codestream import header_of
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE
from scrigno.imaging.decode import PixelSource
from scrigno.imaging.errors import DecodeFailed, UnsupportedSyntax
from scrigno.imaging.part10 import file_prefix, split

pytestmark = pytest.mark.spec("VW-3")

BASELINE, LOSSLESS, JPEG_LS, J2K, HTJ2K, JXL, RLE = (
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.5",
)  # fmt: skip
RANDOM = np.random.default_rng(5)
GREY12 = RANDOM.integers(0, 4096, (24, 20), np.uint16)
COLOUR = RANDOM.integers(0, 256, (24, 20, 3), np.uint8)


def wrapped(dataset: Dataset, syntax: str) -> PixelSource:
    """Return the pixels of an object whose label says `syntax`, whatever stands in it."""
    whole = part10(dataset)
    prefix = file_prefix(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=syntax,
    )
    return opened(prefix + whole[split(whole).data_offset :])


def compressed(dataset: Dataset, frames: list[bytes], syntax: str) -> PixelSource:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return wrapped(dataset, syntax)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (LOSSLESS, lambda a: imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=12)),
        (JPEG_LS, imagecodecs.jpegls_encode),
        (J2K, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k")),
        (HTJ2K, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
        (JXL, lambda a: imagecodecs.jpegxl_encode(a, lossless=True)),
    ],
)
def test_every_lossless_codec_gives_the_same_grey_values(syntax: str, encode) -> None:
    source = compressed(image(GREY12, BitsStored=12, HighBit=11), [encode(GREY12)], syntax)
    assert np.array_equal(source.frame(0).array, GREY12)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEG_LS, imagecodecs.jpegls_encode),
        (J2K, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k")),
        (HTJ2K, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
        (JXL, lambda a: imagecodecs.jpegxl_encode(a, lossless=True)),
    ],
)
@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT", "YBR_ICT"])
def test_every_lossless_codec_gives_the_same_colours(syntax, encode, photometric) -> None:
    dataset = image(COLOUR, PhotometricInterpretation=photometric)
    frame = compressed(dataset, [encode(COLOUR)], syntax).frame(0)
    assert frame.photometric == "RGB" or photometric == "RGB" or syntax in (JPEG_LS, JXL)
    assert np.array_equal(frame.array, COLOUR)


def test_lossy_htj2k_does_not_run_over_at_white() -> None:
    noise = RANDOM.integers(0, 2, (64, 64, 1)).astype(np.uint8) * 255
    colours = np.repeat(noise, 3, axis=2)
    codestream = imagecodecs.htj2k_encode(colours, reversible=False)
    source = compressed(image(colours), [codestream], "1.2.840.10008.1.2.4.203")
    difference = np.abs(source.frame(0).array.astype(int) - colours)
    assert difference.max() < 60


def test_negative_values_keep_their_sign_in_every_codec() -> None:
    signed = GREY12.astype(np.int16) - 2048
    for syntax, codestream in (
        (JPEG_LS, imagecodecs.jpegls_encode(signed.view(np.uint16))),
        (J2K, imagecodecs.jpeg2k_encode(signed, reversible=True, codecformat="j2k")),
        (HTJ2K, imagecodecs.htj2k_encode(signed, reversible=True)),
    ):
        source = compressed(image(signed), [codestream], syntax)
        assert np.array_equal(source.frame(0).array, signed), syntax


def ramp_jpeg(**more: object) -> bytes:
    """Return a smooth colour picture as JPEG: YCbCr inside unless told otherwise."""
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    colours = np.stack([x * 4, y * 4, 255 - x * 2], axis=2).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(colours).save(out, "JPEG", quality=95, **more)
    return out.getvalue()


@pytest.mark.parametrize("named", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_wrong_colour_label_does_not_turn_the_colours(named: str) -> None:
    frame = image(np.zeros((64, 64, 3), np.uint8), PhotometricInterpretation=named)
    found = compressed(frame, [ramp_jpeg()], BASELINE).frame(0)
    assert found.photometric == "RGB"
    wanted = np.asarray(Image.open(BytesIO(ramp_jpeg()))).astype(int)
    assert np.abs(found.array.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("named", ["RGB", "YBR_FULL"])
def test_a_jpeg_that_says_it_is_rgb_is_not_converted(named: str) -> None:
    stored = ramp_jpeg(keep_rgb=True)
    header = header_of(stored)
    assert header is not None
    assert header.adobe_transform == 0
    frame = image(np.zeros((64, 64, 3), np.uint8), PhotometricInterpretation=named)
    found = compressed(frame, [stored], BASELINE).frame(0)
    wanted = np.asarray(Image.open(BytesIO(stored))).astype(int)
    assert np.abs(found.array.astype(int) - wanted).max() <= 2


# native pixel cells ----------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize(
    ("stored", "high_bit", "signed"), [(12, 11, 0), (12, 15, 0), (12, 11, 1), (10, 12, 1)]
)
def test_only_the_pixels_own_bits_count(syntax, stored, high_bit, signed) -> None:
    low = high_bit + 1 - stored
    values = RANDOM.integers(0, 1 << stored, (8, 8)).astype(np.uint16)
    rubbish = RANDOM.integers(0, 1 << 16, (8, 8)).astype(np.uint16)
    mask = np.uint16(((1 << stored) - 1) << low)
    cells = (values << low) | (rubbish & ~mask)
    dataset = image(cells, BitsStored=stored, HighBit=high_bit, PixelRepresentation=signed)
    if syntax == EXPLICIT_BE:
        dataset.PixelData = cells.astype(">u2").tobytes()
    wanted = values.astype(int)
    if signed:
        wanted = np.where(wanted >= 1 << (stored - 1), wanted - (1 << stored), wanted)
    assert np.array_equal(opened(part10(dataset, syntax)).frame(0).array, wanted)


def test_twelve_bits_without_a_gap_are_read() -> None:
    values = RANDOM.integers(0, 4096, (6, 5)).astype(np.uint32)
    bits = ((values.reshape(-1, 1) >> np.arange(12)) & 1).astype(np.uint8)
    dataset = image(np.zeros((6, 5), np.uint16), BitsAllocated=12, BitsStored=12, HighBit=11)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    assert np.array_equal(opened(part10(dataset)).frame(0).array, values)


def test_single_bits_of_later_frames_begin_inside_a_byte() -> None:
    masks = RANDOM.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    dataset = image(masks, BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(masks.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    source = opened(part10(dataset))
    for index in range(3):
        assert np.array_equal(source.frame(index).array, masks[index])


def test_planes_one_after_the_other_are_put_together() -> None:
    dataset = image(COLOUR, PlanarConfiguration=1)
    dataset.PixelData = COLOUR.transpose(2, 0, 1).tobytes()
    assert np.array_equal(opened(part10(dataset)).frame(0).array, COLOUR)


def test_bytes_in_big_endian_words_are_turned_round() -> None:
    pixels = RANDOM.integers(0, 256, (2, 5, 7), np.uint8)
    dataset = image(pixels)
    content = pixels.tobytes()
    dataset.PixelData = np.frombuffer(content, "<u2").byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    source = opened(part10(dataset, EXPLICIT_BE))
    for index in range(2):
        assert np.array_equal(source.frame(index).array, pixels[index])


@pytest.mark.parametrize(("dtype", "keyword"), [("<f4", "FloatPixelData"),
                                                ("<f8", "DoubleFloatPixelData")])  # fmt: skip
def test_floating_point_pixels_are_read(dtype: str, keyword: str) -> None:
    values = RANDOM.normal(size=(4, 6)).astype(dtype)
    dataset = image(np.zeros((4, 6), np.uint16), BitsAllocated=8 * values.dtype.itemsize)
    del dataset.PixelData
    setattr(dataset, keyword, values.tobytes())
    assert np.array_equal(opened(part10(dataset)).frame(0).array, values)


@pytest.mark.parametrize(
    ("photometric", "white"),
    [("YBR_FULL_422", (255, 128, 128)), ("YBR_PARTIAL_422", (235, 128, 128))],
)
def test_shared_colours_become_rgb(photometric: str, white: tuple[int, int, int]) -> None:
    luma, blue, red = white
    dataset = image(np.zeros((2, 4, 3), np.uint8), PhotometricInterpretation=photometric)
    dataset.PixelData = bytes([luma, luma, blue, red]) * 4
    frame = opened(part10(dataset)).frame(0)
    assert frame.photometric == "RGB"
    assert np.array_equal(frame.array, np.full((2, 4, 3), 255))


def test_an_odd_length_and_its_padding_harm_nothing() -> None:
    pixels = RANDOM.integers(0, 256, (3, 3, 3), np.uint8)
    source = opened(part10(image(pixels)))
    assert np.array_equal(source.frame(0).array, pixels)


# where frames stand ----------------------------------------------------------------------------


def film(frames: int = 3) -> tuple[list[np.ndarray], list[bytes]]:
    arrays = [RANDOM.integers(0, 256, (16, 16), np.uint8) for _ in range(frames)]
    return arrays, [imagecodecs.jpegls_encode(each) for each in arrays]


def items(*parts: bytes) -> bytes:
    return b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part for part in parts)


def film_of(content: bytes, frames: int = 3) -> PixelSource:
    dataset = image(np.zeros((frames, 16, 16), np.uint8))
    dataset.PixelData = content
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return wrapped(dataset, JPEG_LS)


def even(part: bytes) -> bytes:
    return part + b"\0" * (len(part) % 2)


def split_up(parts: list[bytes], size: int = 40) -> list[list[bytes]]:
    return [
        [even(part)[at : at + size] for at in range(0, len(even(part)), size)] for part in parts
    ]


def test_frames_are_found_by_an_empty_a_missing_and_a_wrong_offset_table() -> None:
    arrays, parts = film()
    whole = [even(part) for part in parts]
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    for content in (
        items(b"", *whole) + end,
        items(b"", *whole),  # no end of the sequence either
        items(struct.pack("<3I", 0, 5, 9), *whole) + end,
    ):
        source = film_of(content)
        for index, array in enumerate(arrays):
            assert np.array_equal(source.frame(index).array, array)


def test_frames_in_fragments_are_found_by_every_kind_of_table() -> None:
    arrays, parts = film()
    groups = split_up(parts)
    offsets, position = [], 0
    for group in groups:
        offsets.append(position)
        position += sum(8 + len(each) for each in group)
    fragments = [each for group in groups for each in group]
    basic = film_of(items(struct.pack("<3I", *offsets), *fragments))
    # by the end markers of the codestreams
    unaided = film_of(items(b"", *fragments))
    misled = film_of(items(struct.pack("<3I", 0, 5, 9), *fragments))
    backwards = film_of(items(struct.pack("<3I", 0, offsets[2], offsets[1]), *fragments))
    for source in (basic, unaided, misled, backwards):
        for index, array in enumerate(arrays):
            assert np.array_equal(source.frame(index).array, array)


def test_the_extended_offset_table_is_followed() -> None:
    arrays, parts = film()
    content, offsets, lengths = encapsulate_extended(parts)
    dataset = image(np.zeros((3, 16, 16), np.uint8))
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    dataset.PixelData = content
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    source = wrapped(dataset, JPEG_LS)
    for index in (2, 0, 1):
        assert np.array_equal(source.frame(index).array, arrays[index])


def test_fewer_fragments_than_frames_are_told() -> None:
    _, parts = film(2)
    with pytest.raises(DecodeFailed, match="2 fragments"):
        film_of(items(b"", *map(even, parts))).frame(0)


def test_private_and_unknown_syntaxes_are_no_reason_to_guess() -> None:
    with pytest.raises(UnsupportedSyntax):
        compressed(image(COLOUR), [b"\0\0"], "1.2.840.113619.5.2").frame(0)


# real ones -------------------------------------------------------------------------------------

# a compressed file and the uncompressed one with the same values, or the bound of the difference
PAIRS = {
    "MR_small_RLE.dcm": ("MR_small.dcm", 0),
    "MR_small_jp2klossless.dcm": ("MR_small.dcm", 0),
    "MR_small_bigendian.dcm": ("MR_small.dcm", 0),
    "SC_rgb_rle.dcm": ("SC_rgb.dcm", 0),
    "SC_rgb_rle_16bit.dcm": ("SC_rgb_16bit.dcm", 0),
    "SC_rgb_rle_32bit.dcm": ("SC_rgb_32bit.dcm", 0),
    "SC_rgb_rle_2frame.dcm": ("SC_rgb_2frame.dcm", 0),
    "SC_rgb_gdcm_KY.dcm": ("SC_rgb.dcm", 1),
    "rtdose_rle.dcm": ("rtdose.dcm", 0),
    "rtdose_expb.dcm": ("rtdose.dcm", 0),
    "liver_expb_1frame.dcm": ("liver_1frame.dcm", 0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_real_objects_hold_the_same_values_in_every_syntax(name: str) -> None:
    other, bound = PAIRS[name]
    paths = [get_testdata_file(each, download=False) for each in (name, other)]
    if None in paths:
        pytest.skip("pydicom does not bring this file along")
    one, two = (opened(Path(str(path)).read_bytes()) for path in paths)
    for index in range(min(one.frames, two.frames)):
        difference = one.frame(index).array.astype(int) - two.frame(index).array.astype(int)
        assert np.abs(difference).max() <= bound
