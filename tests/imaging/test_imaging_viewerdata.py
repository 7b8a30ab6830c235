# SPDX-License-Identifier: Apache-2.0
"""What the viewer gets: frames and metadata that belong together and that its loader takes."""

import json
import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from imaging_objects import image, opened, part10
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from scrigno.imaging import jobs
from scrigno.imaging.errors import ImagingError
from scrigno.imaging.protocol import memory_file
from scrigno.imaging.viewerdata import viewer_frame, viewer_metadata

pytestmark = pytest.mark.spec("VW-3")


def both(dataset: Dataset) -> tuple[dict[str, Any], np.ndarray]:
    source = opened(part10(dataset))
    frame = source.frame(0)
    said = viewer_metadata(dataset, source, lambda: frame, None)
    return said, imagecodecs.htj2k_decode(viewer_frame(source, 0, frame))


def value(said: dict[str, Any], tag: str) -> Any:
    return said[tag]["Value"][0]


def check(said: dict[str, Any], pixels: np.ndarray) -> None:
    """Check that the metadata describe the frame."""
    assert pixels.shape[:2] == (value(said, "00280010"), value(said, "00280011"))
    assert value(said, "00280002") == (3 if pixels.ndim == 3 else 1)
    assert value(said, "00280100") == pixels.dtype.itemsize * 8
    assert value(said, "00280103") == int(pixels.dtype.kind == "i")
    assert value(said, "00280102") == value(said, "00280101") - 1
    assert value(said, "00080060")
    if pixels.ndim == 3:
        assert value(said, "00280004") == "RGB"


def test_the_frame_is_rpcl_with_tile_lengths() -> None:
    source = opened(part10(image(np.zeros((64, 64), np.uint16))))
    codestream = viewer_frame(source, 0, source.frame(0))
    style = codestream.index(b"\xff\x52")
    assert codestream[style + 5] == 2  # resolution, position, component, layer
    assert b"\xff\x55" in codestream[:300]  # TLM, which the syntax asks for


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_values_arrive_as_they_are(dtype) -> None:
    bounds = np.iinfo(dtype)
    values = np.random.default_rng(2).integers(bounds.min, bounds.max, (32, 32)).astype(dtype)
    said, pixels = both(image(values))
    check(said, pixels)
    assert np.array_equal(pixels, values)


def test_what_a_loader_trips_over_is_put_right() -> None:
    dataset = image(np.zeros((8, 8), np.uint8), PixelSpacing=["0", "0"],
                    WindowCenter="1", WindowWidth="0")  # fmt: skip
    del dataset.Modality
    dataset.add_new(0x00091010, "OB", bytes(5000))
    dataset.add_new(0x60003000, "OW", bytes(8))
    said, pixels = both(dataset)
    check(said, pixels)
    assert value(said, "00080060") == "OT"
    assert value(said, "00281051") > 0
    assert "00280030" not in said
    assert not [tag for tag in said if tag.startswith(("60", "7FE0", "0009"))]


def test_palettes_arrive_as_colours() -> None:
    dataset = image(np.arange(64, dtype=np.uint8).reshape(8, 8),
                    PhotometricInterpretation="PALETTE COLOR")  # fmt: skip
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes(range(256)))
    said, pixels = both(dataset)
    check(said, pixels)
    assert pixels[0, 5].tolist() == [5, 5, 5]
    assert not [tag for tag in said if tag.startswith(("002811", "002812"))]


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_values_are_scaled_and_the_scale_is_told(keyword: str) -> None:
    kind = "<f4" if keyword == "FloatPixelData" else "<f8"
    values = np.random.default_rng(4).normal(0, 1000, (16, 16)).astype(kind)
    dataset = image(np.zeros((16, 16), np.uint16), BitsAllocated=8 * values.dtype.itemsize)
    del dataset.PixelData
    setattr(dataset, keyword, values.tobytes())
    said, pixels = both(dataset)
    check(said, pixels)
    back = pixels * float(value(said, "00281053")) + float(value(said, "00281052"))
    assert np.abs(back - values).max() <= float(value(said, "00281053"))


def test_doses_of_32_bits_keep_their_meaning() -> None:
    values = np.random.default_rng(4).integers(0, 1 << 31, (16, 16)).astype(np.uint32)
    said, pixels = both(image(values, RescaleSlope="0.5", RescaleIntercept="3"))
    check(said, pixels)
    back = pixels * float(value(said, "00281053")) + float(value(said, "00281052"))
    assert np.abs(back - (values * 0.5 + 3)).max() <= float(value(said, "00281053"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about broken files
def test_every_image_that_pydicom_brings_has_metadata_that_fit_its_frame() -> None:
    seen = 0
    folder = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
    for path in sorted(folder.glob("*.dcm")):
        fd = memory_file(path.read_bytes())
        try:
            said = json.loads(run("viewer-metadata", fd, bulk_uri=None))
            frame = run("viewer-frame", fd, frame=0)
        except ImagingError:
            continue  # a report, or broken on purpose
        finally:
            os.close(fd)
        check(said, imagecodecs.htj2k_decode(frame))
        seen += 1
    assert seen > 30


def run(job: str, fd: int, **more: object) -> bytes:
    _, result = jobs.run({"job": job, **more}, fd)
    try:
        return os.pread(result, os.fstat(result).st_size, 0)
    finally:
        os.close(result)
