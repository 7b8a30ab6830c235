# SPDX-License-Identifier: Apache-2.0
"""Objects made to eat memory or time: each is refused before anything is taken for it."""

import struct
import tracemalloc
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from imaging_objects import ct, image, opened, part10
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from scrigno.imaging import codecs, decode, frames, palette
from scrigno.imaging.dataset import MAX_DEPTH
from scrigno.imaging.dicomjson import described
from scrigno.imaging.documents import clinical, report, traces, waveform
from scrigno.imaging.documents.said import said_by
from scrigno.imaging.errors import DecodeFailed, ImagingError
from scrigno.imaging.overlays import overlay_mask, shutter_mask
from scrigno.imaging.part10 import file_prefix, split
from scrigno.imaging.presentation import MAX_ANNOTATIONS, written
from scrigno.imaging.render import rendered
from scrigno.imaging.results import Look

pytestmark = pytest.mark.spec("DN-11")

SMALL = np.zeros((16, 16), np.uint8)
MEGABYTES = 1 << 20


def refused(work: Callable[[], object], match: str = ".", *, most: int = 32 * MEGABYTES) -> None:
    """Check that the work is refused in words while Python's own memory stays small."""
    tracemalloc.start()
    try:
        with pytest.raises(ImagingError, match=match):
            work()
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def frame_of(codestream: bytes, syntax: str, dataset: Dataset | None = None) -> decode.PixelSource:
    dataset = dataset or image(SMALL)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    whole = part10(dataset)
    prefix = file_prefix(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=syntax,
    )
    return opened(prefix + whole[split(whole).data_offset :])


def with_size(codestream: bytes, at: int, size: bytes) -> bytes:
    return codestream[:at] + size + codestream[at + len(size) :]


@pytest.mark.parametrize("side", [65535, 30000])
def test_a_jpeg_that_claims_another_size_is_not_decoded(side: int) -> None:
    small = imagecodecs.jpeg8_encode(SMALL)
    at = small.index(b"\xff\xc0") + 5
    bomb = with_size(small, at, struct.pack(">HH", side, side))
    refused(lambda: frame_of(bomb, "1.2.840.10008.1.2.4.50").frame(0), "says 16 × 16")


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        ("1.2.840.10008.1.2.4.90", imagecodecs.jpeg2k_encode),
        ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
    ],
)
def test_a_wavelet_bomb_is_not_decoded(syntax, encode) -> None:
    small = encode(SMALL)
    at = small.index(b"\xff\x51") + 6
    bomb = with_size(small, at, struct.pack(">II", 60000, 60000))
    refused(lambda: frame_of(bomb, syntax).frame(0), "the object says 16 × 16")
    many = with_size(small, small.index(b"\xff\x51") + 38, struct.pack(">H", 16384))
    refused(lambda: frame_of(many, syntax).frame(0))


def test_a_jpeg_ls_bomb_is_not_decoded() -> None:
    small = imagecodecs.jpegls_encode(SMALL)
    at = small.index(b"\xff\xf7") + 5
    bomb = with_size(small, at, struct.pack(">HH", 65535, 65535))
    refused(lambda: frame_of(bomb, "1.2.840.10008.1.2.4.80").frame(0), "says 16 × 16")


def test_a_jpeg_xl_bomb_is_not_decoded() -> None:
    bomb = imagecodecs.jpegxl_encode(np.zeros((3000, 3000), np.uint8), lossless=True, effort=1)
    assert len(bomb) < 10_000
    refused(lambda: frame_of(bomb, "1.2.840.10008.1.2.4.110").frame(0))


def test_an_object_that_claims_a_huge_frame_is_refused_at_once() -> None:
    huge = image(SMALL, Rows=65535, Columns=65535)
    refused(lambda: opened(part10(huge)), "larger than a worker takes")


def test_runs_do_not_grow_beyond_the_frame() -> None:
    runs = b"\x81\x00" * 200_000  # 128 bytes of two: 25 MB in all
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    source = frame_of(header + runs, "1.2.840.10008.1.2.5")
    tracemalloc.start()
    assert source.frame(0).array.shape == (16, 16)
    assert tracemalloc.get_traced_memory()[1] < 4 * MEGABYTES
    tracemalloc.stop()
    twisted = struct.pack("<16I", 15, *[64] * 15) + runs
    refused(lambda: frame_of(twisted, "1.2.840.10008.1.2.5").frame(0), "planes")


def test_a_deflated_object_stops_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(decode, "MAX_INFLATED_BYTES", MEGABYTES)
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(64 * MEGABYTES)) + packer.flush()
    refused(lambda: decode._data_set(bomb), "larger than", most=80 * MEGABYTES)


def test_a_deflated_frame_stops_at_the_frames_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(decode, "MAX_FRAME_BYTES", MEGABYTES)
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(8 * MEGABYTES)) + packer.flush()
    assert len(decode._inflated(bomb)) <= MEGABYTES


def test_fragments_without_number_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAGMENTS", 1000)
    dataset = image(np.zeros((3, 16, 16), np.uint8))
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    dataset.PixelData = item * 3000
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    whole = part10(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    refused(lambda: opened(whole).frame(0), "more fragments")


def test_samples_of_many_bits_are_not_decoded() -> None:
    small = imagecodecs.jpeg2k_encode(SMALL)
    at = small.index(b"\xff\x51") + 40
    refused(
        lambda: frame_of(with_size(small, at, b"\x25"), "1.2.840.10008.1.2.4.90").frame(0), "bits"
    )


def test_a_segmented_palette_neither_grows_nor_circles() -> None:
    assert len(palette.expand([0, 1, 7, 1, 60000, 9] * 500, 256)) == 256
    with pytest.raises(DecodeFailed):
        palette.expand([0, 1, 7, 2, 60000, 6, 0], 256)  # a segment that is itself
    with pytest.raises(DecodeFailed):
        palette.expand([1, 5, 5], 256)


def test_overlays_and_shutters_larger_than_the_image_are_cut() -> None:
    dataset = image(SMALL)
    dataset.add_new(0x60000010, "US", 65535)
    dataset.add_new(0x60000011, "US", 65535)
    dataset.add_new(0x60003000, "OW", bytes(64))
    assert overlay_mask(opened(part10(dataset)), 0) is None
    outside = image(SMALL)
    outside.add_new(0x60000010, "US", 4)
    outside.add_new(0x60000011, "US", 4)
    outside.add_new(0x60000050, "SS", [-30000, 30000])
    outside.add_new(0x60003000, "OW", b"\xff\xff")
    mask = overlay_mask(opened(part10(outside)), 0)
    assert mask is not None
    assert not mask.any()
    shut = image(SMALL, ShutterShape="CIRCULAR", CenterOfCircularShutter=[8, 8],
                 RadiusOfCircularShutter=2**31 - 1)  # fmt: skip
    cover = shutter_mask(shut)
    assert cover is None or not cover.all()


def nested(depth: int) -> Dataset:
    inner = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ValueType = "CONTAINER"
        outer.ContentSequence = [inner]
        inner = outer
    return inner


def test_deep_trees_are_cut_or_refused() -> None:
    with pytest.raises(DecodeFailed, match="deep"):
        described(nested(MAX_DEPTH + 3), None)
    page, _ = report.as_html(nested(200), language="en")
    assert len(page) < 20_000
    key_objects = nested(200)
    key_objects.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.59"
    assert said_by(key_objects)["references"] == []


def test_wide_reports_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_ITEMS", 100)
    wide = Dataset()
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "x" * 200
    wide.ContentSequence = [item] * 5000
    page, _ = report.as_html(wide, language="en")
    assert len(page) < 50_000
    assert b"more than 100 entries" in page


@pytest.mark.parametrize(
    "attack",
    [
        b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><a>&d;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>" * 30,
        b"no xml",
    ],
)
def test_clinical_documents_with_tricks_are_refused(attack: bytes) -> None:
    refused(lambda: clinical.as_html(attack, language="en"))


def test_the_narrative_of_a_clinical_document_is_plain() -> None:
    content = (
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><title>T &lt;b&gt;</title><component>'
        b"<section><title>S</title><text><table onclick='x()'><tr><td>1 &lt;script&gt;</td></tr>"
        b"</table><script>alert(1)</script><linkHtml href='javascript:x'>l</linkHtml></text>"
        b"</section></component></ClinicalDocument>"
    )
    page = clinical.as_html(content, language="en")[0].decode()
    assert "<td>1 &lt;script&gt;</td>" in page
    for trick in ("onclick", "<script", "javascript", "<b>"):
        assert trick not in page


def test_a_waveform_larger_than_it_holds_is_refused() -> None:
    item = Dataset()
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = 500, 2**31 - 1
    item.SamplingFrequency, item.WaveformBitsAllocated = 500, 16
    item.WaveformSampleInterpretation, item.WaveformData = "SS", bytes(100)
    refused(lambda: waveform.samples_of(item, little=True), "larger")
    item.NumberOfWaveformSamples = 1000
    refused(lambda: waveform.samples_of(item, little=True), "fewer")


def test_a_long_waveform_is_drawn_small() -> None:
    samples = np.sin(np.arange(4_000_000) / 50).astype(np.float32)
    group = waveform.Group("", 2000.0, [waveform.Channel("<x>&", "mV", samples)])
    drawing = traces.as_svg([group], title="</title><script>")
    assert len(drawing) < 600_000
    assert b"<script" not in drawing
    assert b"<x>" not in drawing


def test_films_and_orders_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from scrigno.imaging import render

    monkeypatch.setattr(render, "MAX_ANIMATED_PIXELS", 1000)
    film = opened(part10(image(np.zeros((50, 16, 16), np.uint8))))
    refused(lambda: rendered(film, Look(frames=50, format="gif")), "too large")
    with pytest.raises(DecodeFailed, match=str(MAX_ANNOTATIONS)):
        written({"kind": "measurements", "annotations": [None] * (MAX_ANNOTATIONS + 1)})


def test_a_profile_of_colours_that_is_broken_is_ignored() -> None:
    colours = image(np.full((8, 8, 3), 200, np.uint8), ICCProfile=b"\xff" * 4000)
    content, shown = rendered(opened(part10(colours)), Look(format="png"))
    assert content[:4] == b"\x89PNG"
    assert shown.pixels.max() == 200


def test_no_codec_is_asked_for_a_frame_that_is_none() -> None:
    for rubbish in (b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51\0", b"GIF89a" * 10):
        for syntax in sorted(decode.DECODED)[:6]:
            refused(lambda r=rubbish, s=syntax: frame_of(r, s).frame(0))
    assert codecs.header_of(b"\xff\xd8" + b"\xff" * 100) is None


def test_values_that_are_no_numbers_stay_texts() -> None:
    said = described(ct(SliceLocation="1.5", StudyDescription="a\ud800b"), None)
    assert said["00201041"]["Value"] == [1.5]
    assert "\ud800" not in said["00081030"]["Value"][0]
