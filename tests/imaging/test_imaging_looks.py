# SPDX-License-Identifier: Apache-2.0
"""How a frame is shown: windows by name, overlays, shutters, pixel shape, palettes, films."""

import io

import numpy as np
import pytest
from imaging_objects import image, opened, part10
from PIL import Image, ImageCms
from pydicom.dataset import Dataset

from scrigno.imaging.luts import PRESETS
from scrigno.imaging.render import Picture, picture, rendered
from scrigno.imaging.results import Look, PictureFormat, Viewport

pytestmark = pytest.mark.spec("VW-3")
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def shown(dataset: Dataset, **look: object) -> Picture:
    return picture(opened(part10(dataset)), Look(**look))  # type: ignore[arg-type] - as given


def file(dataset: Dataset, **look: object) -> Image.Image:
    content, _ = rendered(opened(part10(dataset)), Look(**look))  # type: ignore[arg-type]
    return Image.open(io.BytesIO(content))


def two_windows() -> Dataset:
    return image(
        RAMP,
        WindowCenter=[1000, 3000],
        WindowWidth=[200, 400],
        WindowCenterWidthExplanation=["SOFT", "BONE "],
    )


@pytest.mark.parametrize(
    ("voi", "wanted"),
    [
        (None, (1000, 200)), (1, (3000, 400)), ("bone", (3000, 400)), ("lung", PRESETS["lung"]),
        (7, (1000, 200)), ("no such name", (1000, 200)), ("full", (2047.5, 4095)),
    ],
)  # fmt: skip
def test_a_window_is_chosen_by_number_name_or_preset(voi, wanted) -> None:
    window = shown(two_windows(), voi=voi).window
    assert window is not None
    assert (window.center, window.width) == wanted


def test_inverting_is_the_other_way_round_of_what_was() -> None:
    plain = shown(two_windows()).pixels
    assert np.array_equal(shown(two_windows(), invert=True).pixels, 255 - plain)
    first = image(RAMP, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=200)
    assert np.array_equal(shown(first).pixels, 255 - plain)
    assert np.array_equal(shown(first, invert=True).pixels, plain)


def test_a_voi_table_with_less_depth_than_it_says_is_not_black() -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = np.arange(256, dtype="<u2").tobytes()
    pixels = shown(image(np.arange(256, dtype=np.uint16).reshape(16, 16),
                         VOILUTSequence=[table])).pixels  # fmt: skip
    assert pixels.max() == 255


def overlay(dataset: Dataset, bits: np.ndarray, **more: object) -> Dataset:
    dataset.add_new(0x60000010, "US", bits.shape[0])
    dataset.add_new(0x60000011, "US", bits.shape[1])
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", more.get("origin", [1, 1]))
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
    dataset.add_new(0x60003000, "OW", packed + b"\0" * (len(packed) % 2))
    return dataset


def test_overlays_are_drawn_in_their_place_unless_unwanted() -> None:
    bits = np.ones((4, 6), np.uint8)
    dataset = overlay(image(np.zeros((16, 16), np.uint8)), bits, origin=[3, 5])
    pixels = shown(dataset).pixels
    assert (pixels[2:6, 4:10] == 255).all()
    assert pixels.sum() == 255 * 24
    assert shown(dataset, overlays=False).pixels.sum() == 0


@pytest.mark.parametrize("big_endian", [False, True])
def test_overlays_in_the_unused_bits_of_pixels_are_drawn(big_endian) -> None:
    values = np.zeros((16, 16), np.uint16)
    values[3, 5] |= 1 << 12
    dataset = image(values, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=4000)
    for tag, vr, value in ((0x60000010, "US", 16), (0x60000011, "US", 16), (0x60000040, "CS", "G"),
                           (0x60000100, "US", 16), (0x60000102, "US", 12)):  # fmt: skip
        dataset.add_new(tag, vr, value)
    syntax = "1.2.840.10008.1.2.1"
    if big_endian:
        syntax = "1.2.840.10008.1.2.2"
        dataset.PixelData = values.astype(">u2").tobytes()
    pixels = picture(opened(part10(dataset, syntax)), Look()).pixels
    assert pixels[3, 5] == 255
    assert pixels.sum() == 255


def test_a_shutter_hides_what_lies_outside() -> None:
    bright = np.full((32, 32), 255, np.uint8)
    shut = image(bright, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=8,
                 ShutterRightVerticalEdge=25, ShutterUpperHorizontalEdge=4,
                 ShutterLowerHorizontalEdge=29)  # fmt: skip
    pixels = shown(shut).pixels
    assert (pixels[4:28, 8:24] == 255).all()
    assert pixels.sum() == 255 * 24 * 16
    assert (shown(shut, shutter=False).pixels == 255).all()
    round_one = image(bright, ShutterShape="CIRCULAR", CenterOfCircularShutter=[16, 16],
                      RadiusOfCircularShutter=8)  # fmt: skip
    pixels = shown(round_one).pixels
    assert pixels[15, 15] == 255
    assert pixels[0, 0] == 0


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({"PixelAspectRatio": ["2", "1"]}, (64, 128)),
        ({"PixelSpacing": ["0.5", "1"]}, (128, 64)),
        ({"PixelSpacing": ["0", "0"]}, (64, 64)),
        ({"PixelAspectRatio": ["1000000", "1"]}, (64, 64)),
    ],
)
def test_pixels_that_are_not_square_are_stretched(more, size) -> None:
    assert file(image(RAMP, **more)).size == size


def test_a_viewport_shows_a_part_turned_as_asked() -> None:
    pixels = np.zeros((40, 80), np.uint8)
    pixels[:20, :40] = 255
    whole = file(image(pixels), viewport=Viewport(width=40, height=40), format="png")
    assert whole.size == (40, 20)
    part = Viewport(width=100, height=100, left=30, top=0, part_width=-20, part_height=20)
    mirrored = np.asarray(file(image(pixels), viewport=part, format="png"))
    assert mirrored.shape == (100, 100)
    assert mirrored[:90, :45].max() == 0
    assert mirrored[:90, 55:].min() == 255


def segmented() -> Dataset:
    dataset = image(np.arange(256, dtype=np.uint8).reshape(16, 16),
                    PhotometricInterpretation="PALETTE COLOR")  # fmt: skip
    words = np.array([0, 1, 0, 1, 255, 65280], "<u2").tobytes()  # from black to full in 256 steps
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", words)
    return dataset


def test_a_segmented_palette_is_expanded() -> None:
    pixels = shown(segmented()).pixels
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels[:, :, 0].reshape(-1).astype(int) - np.arange(256)).max() <= 1


def test_a_supplemental_palette_colours_only_its_values() -> None:
    dataset = image(RAMP, PixelPresentation="COLOR", WindowCenter=500, WindowWidth=1000)
    for colour, value in (("Red", 255), ("Green", 0), ("Blue", 0)):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [16, 4000, 16])
        entries = np.full(16, value << 8, "<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", entries)
    pixels = shown(dataset).pixels
    assert pixels[RAMP >= 4000].tolist() == [[255, 0, 0]] * 96
    grey = pixels[RAMP < 4000]
    assert (grey[:, 0] == grey[:, 1]).all()
    del dataset.PixelPresentation  # then it is a leftover
    assert shown(dataset).pixels.ndim == 2


def test_colours_are_given_in_srgb() -> None:
    # a profile that swaps nothing but says another white and gamma: LAB is far away enough
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    same = file(image(colours, ICCProfile=profile), format="png")
    assert np.abs(np.asarray(same).astype(int) - colours).max() <= 1


def test_sixteen_bits_of_grey_survive_in_png16() -> None:
    dataset = image(RAMP, WindowCenter=2048, WindowWidth=4096)
    made = np.asarray(file(dataset, format="png16"))
    assert made.dtype.itemsize >= 2
    assert len(np.unique(made)) > 4000


def test_texts_are_burnt_in_only_when_asked() -> None:
    dataset = image(np.zeros((200, 200), np.uint8))
    assert np.asarray(file(dataset, format="png")).max() == 0
    with_texts = file(dataset, format="png", annotation=("patient", "technique"))
    assert np.asarray(with_texts).max() > 200


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_film_becomes_one_moving_picture(kind: PictureFormat) -> None:
    frames = np.stack([np.full((16, 16), each * 20, np.uint8) for each in range(10)])
    made = file(image(frames, FrameTime="40"), format=kind, frames=6, frame=2)
    assert made.n_frames == 6


def test_a_film_keeps_one_window() -> None:
    frames = np.stack([RAMP // 4, RAMP // 2, RAMP])
    source = opened(part10(image(frames)))
    windows = {picture(source, Look(frame=index)).window for index in range(3)}
    assert len(windows) == 1


def test_a_small_picture_of_a_large_image_looks_like_it() -> None:
    large = np.tile(np.linspace(0, 4095, 1200).astype(np.uint16), (1200, 1))
    dataset = image(large, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    small = np.asarray(file(dataset, max_size=100, format="png")).astype(int)
    wanted = np.linspace(0, 255, 100)
    assert np.abs(small[50] - wanted).max() <= 4
