# SPDX-License-Identifier: Apache-2.0
"""From stored values to grey: by the formulas of PS3.3 C.11, and beside DCMTK on real files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from imaging_objects import image, opened, part10
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scrigno.host.process import run
from scrigno.imaging.dataset import EXPLICIT_BE, IMPLICIT_LE
from scrigno.imaging.decode import PixelSource
from scrigno.imaging.errors import DecodeFailed, NoPixels, NoSuchFrame, UnsupportedSyntax
from scrigno.imaging.luts import Window
from scrigno.imaging.part10 import split
from scrigno.imaging.render import Picture, apply_window, picture, rendered
from scrigno.imaging.results import Look

RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)


def shown(dataset: Dataset, index: int = 0, window: tuple[float, float] | None = None) -> Picture:
    return picture(opened(part10(dataset)), Look(frame=index, window=window))


def by_the_standard(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1, word for word, output 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 255.0
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


@pytest.mark.spec("VW-3")
@pytest.mark.parametrize(("center", "width"), [(40, 400), (0, 2), (100.5, 51.25), (-600, 1500)])
def test_the_linear_window_is_the_standards_formula(center: float, width: float) -> None:
    grey = apply_window(RAMP, Window(center=center, width=width))
    wanted = np.array([by_the_standard(float(x), center, width) for x in RAMP.ravel()])
    assert np.abs(grey.ravel() - wanted).max() <= 0.51
    as_float = apply_window(RAMP.astype(np.float32), Window(center=center, width=width))
    assert np.array_equal(grey, as_float)


def test_a_width_of_one_is_a_threshold() -> None:
    grey = apply_window(RAMP, Window(center=10, width=1))
    assert grey[RAMP == 9].item() == 0
    assert grey[RAMP == 10].item() == 255


def test_sigmoid_and_exact_windows() -> None:
    sigmoid = apply_window(RAMP, Window(center=100, width=200, function="SIGMOID"))
    assert sigmoid[RAMP == 100].item() in (127, 128)
    assert sigmoid[RAMP == 200].item() == round(255 / (1 + np.exp(-2)))
    exact = apply_window(RAMP, Window(center=100, width=200, function="LINEAR_EXACT"))
    assert (exact[RAMP == 0].item(), exact[RAMP == 200].item()) == (0, 255)


def test_rescale_comes_before_the_window_and_the_window_is_told() -> None:
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    dataset = image(stored, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter=["40", "5"],
                    WindowWidth=["400", "6"])  # fmt: skip
    made = shown(dataset)
    assert made.window == Window(center=40, width=400)
    assert np.array_equal(made.pixels, apply_window(RAMP, Window(center=40, width=400)))
    asked = shown(dataset, window=(300, 1500))
    assert np.array_equal(asked.pixels, apply_window(RAMP, Window(center=300, width=1500)))


@pytest.mark.spec("VW-3")
def test_monochrome1_and_an_inverse_presentation_are_inverted() -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    plain = shown(image(stored)).pixels
    assert np.array_equal(plain, stored)
    assert np.array_equal(shown(image(stored, PhotometricInterpretation="MONOCHROME1")).pixels,
                          255 - plain)  # fmt: skip
    assert np.array_equal(shown(image(stored, PresentationLUTShape="INVERSE")).pixels, 255 - plain)


@pytest.mark.parametrize("window", [("0", "0"), ("nan", "400"), ("1e999", "1"), ("40", "-5")])
def test_a_window_that_cannot_be_is_replaced_by_one_that_can(window: tuple[str, str]) -> None:
    dataset = image(RAMP)
    dataset.add_new(0x00281050, "LO", window[0])
    dataset.add_new(0x00281051, "LO", window[1])
    made = shown(dataset)
    assert made.window is not None
    assert made.window.width > 1000
    assert made.pixels.std() > 50


def test_a_ct_without_window_is_shown_as_soft_tissue_and_padding_does_not_count() -> None:
    assert shown(image(RAMP, Modality="CT", RescaleSlope=2, RescaleIntercept=1)).window == Window(
        center=40, width=400
    )
    padded = RAMP.copy()
    padded[:32] = -32768
    window = shown(image(padded, PixelPaddingValue=-32768)).window
    assert window is not None
    assert window.center - window.width / 2 > 0


@pytest.mark.spec("VW-3")
def test_palette_rgb_ybr_and_planes_end_up_as_the_same_colours() -> None:
    colours = np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8)
    assert np.array_equal(shown(image(colours)).pixels, colours)
    planes = image(colours, PlanarConfiguration=1)
    planes.PixelData = colours.transpose(2, 0, 1).tobytes()
    assert np.array_equal(shown(planes).pixels, colours)
    palette = image(np.arange(64, dtype=np.uint8).reshape(8, 8),
                    PhotometricInterpretation="PALETTE COLOR")  # fmt: skip
    for index, name in enumerate(("Red", "Green", "Blue")):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [64, 0, 16])
        table = colours.reshape(64, 3)[:, index].astype("<u2") * 257
        setattr(palette, f"{name}PaletteColorLookupTableData", table.tobytes())
    assert np.array_equal(shown(palette).pixels, colours)
    sixteen = image(colours.astype(np.uint16) * 257)
    assert np.array_equal(shown(sixteen).pixels, colours)
    grey_as_ybr = np.dstack([colours[:, :, :1]] + [np.full((8, 8, 1), 128, np.uint8)] * 2)
    ybr = shown(image(grey_as_ybr, PhotometricInterpretation="YBR_FULL")).pixels
    assert np.abs(ybr.astype(int) - colours[:, :, :1]).max() <= 1


def test_one_bit_float_and_32_bit_pixels_are_shown() -> None:
    bits = np.random.default_rng(2).integers(0, 2, (3, 5, 7), np.uint8)
    segmentation = image(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    segmentation.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0"
    for index in range(3):
        assert np.array_equal(shown(segmentation, index).pixels, bits[index] * 255)
    floats = image(np.zeros((4, 4), np.uint16), BitsAllocated=32)
    del floats.PixelData
    floats.FloatPixelData = np.linspace(-1, 1, 16, dtype=np.float32).tobytes()
    grey = shown(floats).pixels
    assert (grey[0, 0], grey[3, 3]) == (0, 255)
    wide = shown(image(np.linspace(0, 4e9, 64).astype(np.uint32).reshape(8, 8)))
    assert np.all(np.diff(wide.pixels.ravel().astype(int)) >= 0)


def test_functional_groups_of_an_enhanced_object_count_per_frame() -> None:
    frames = np.stack([RAMP, RAMP])
    dataset = image(frames)
    groups = []
    for center in (0, 1000):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 100
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    windows = [shown(dataset, index).window for index in range(2)]
    assert windows == [Window(center=0, width=100), Window(center=1000, width=100)]


def test_lut_sequences_are_applied() -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    lut = Dataset()
    lut.LUTDescriptor = [256, 0, 8]
    lut.LUTData = bytes(255 - value for value in range(256))
    lut["LUTData"].VR = "OW"
    voi = image(stored)
    voi.VOILUTSequence = Sequence([lut])
    made = shown(voi)
    assert made.window is None
    assert np.array_equal(made.pixels, 255 - stored)


class Reads(io.BytesIO):
    """A stream that counts what is read of it."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.total += len(content)
        return content


def test_only_the_frame_asked_for_is_read() -> None:
    frames = np.zeros((400, 64, 64), np.uint16)
    content = part10(image(frames))
    source = opened(content)
    counted = Reads(content)
    whole = PixelSource(counted, split(content))
    counted.total = 0
    whole.frame(399)
    assert counted.total < 3 * 64 * 64 * 2
    assert source.frames == 400
    with pytest.raises(NoSuchFrame, match="400"):
        source.frame(400)


def test_what_cannot_be_shown_says_why() -> None:
    report = image(RAMP)
    del report.PixelData
    with pytest.raises(NoPixels):
        shown(report)
    huge = image(RAMP, Rows=65535, Columns=65535)
    with pytest.raises(DecodeFailed, match="larger"):
        shown(huge)
    short = image(RAMP)
    short.PixelData = b"\0\0"
    with pytest.raises(DecodeFailed, match="fewer pixels"):
        shown(short)
    video = pydicom.encaps.encapsulate([b"\0\0\1\xb3"])
    dataset = image(RAMP.astype(np.uint8))
    dataset.PixelData = video
    dataset["PixelData"].is_undefined_length = True
    content = part10(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.100\0", 1)
    content = content.replace(b"\x10\0UI\x14\0", b"\x10\0UI\x18\0", 1)
    with pytest.raises(UnsupportedSyntax):
        picture(opened(content), Look())


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_BE])
def test_every_uncompressed_encoding_shows_the_same(syntax: str) -> None:
    dataset = image(RAMP, WindowCenter=40, WindowWidth=400)
    wanted = picture(opened(part10(dataset)), Look()).pixels
    if syntax == EXPLICIT_BE:
        dataset.PixelData = RAMP.astype(">i2").tobytes()
    assert np.array_equal(picture(opened(part10(dataset, syntax)), Look()).pixels, wanted)


def test_pictures_are_scaled_down_and_never_up() -> None:
    pixels = np.zeros((100, 400), np.uint8)
    for kind, size, wanted in (("jpeg", 200, (200, 50)), ("png", 1000, (400, 100))):
        look = Look(max_size=size, format=kind, quality=80)
        content, _ = rendered(opened(part10(image(pixels))), look)
        made = Image.open(io.BytesIO(content))
        assert (made.size, made.format) == (wanted, kind.upper())


# file -> greatest difference that is explained: DCMTK cuts where we round; JPEG decoders differ
BESIDE_DCMTK = {
    "cornerstone/LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm": 1,
    "cornerstone/BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": 1,
    "cornerstone/JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm": 1,
    "cornerstone/JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": 1,
    "cornerstone/JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": 1,
    "cornerstone/RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": 1,
    "cornerstone/TestPattern_Palette.dcm": 1,
    "media-dicomdir/98892003/MR700/4648": 1,
    "dcm4che/NM-MONO2-16-13x-heart": 1,
    "synthetic/px-panoramic.dcm": 1,
    "pydicom/test_files/rtdose.dcm": 1,
    "pydicom/test_files/SC_rgb_rle.dcm": 0,
    "pydicom/test_files/SC_ybr_full_422_uncompressed.dcm": 2,
    "pydicom/test_files/MR_small_expb.dcm": 1,
    "dcm4che/US-PAL-8-10x-echo": 1,
}


@pytest.mark.spec("VW-3")
@pytest.mark.parametrize("name", BESIDE_DCMTK)
async def test_real_images_look_as_dcmtk_shows_them(
    real_data: Path | None, tmp_path: Path, name: str
) -> None:
    if real_data is None or not Path("/usr/bin/dcmj2pnm").exists():
        pytest.skip("the real data set or DCMTK is not on this machine")
    path = real_data / name
    made = picture(opened(path.read_bytes()), Look())
    arguments = ["/usr/bin/dcmj2pnm", "+F", "1", "-a", "+op"]
    if made.window is not None:
        arguments += ["+Ww", str(made.window.center), str(made.window.width)]
    out = tmp_path / "out.pnm"
    done = await run([*arguments, str(path), str(out)], timeout_s=30)
    assert done.returncode == 0, done.stderr
    theirs: np.ndarray[Any, Any] = np.asarray(Image.open(out)).astype(int)
    difference = np.abs(theirs - made.pixels)
    assert difference.max() <= BESIDE_DCMTK[name]
    assert made.pixels.std() > 1
