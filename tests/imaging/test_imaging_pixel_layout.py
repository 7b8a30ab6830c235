# SPDX-License-Identifier: Apache-2.0
"""Frames found from the first bytes of an object are those that pydicom finds in the whole."""

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import JPEGLSLossless

from made_objects import ct_series
from scrigno.imaging.dataset import Cut
from scrigno.imaging.pixel_layout import Layout, NoLayout, codestream, layout_of

pytestmark = pytest.mark.spec("IN-5")


def found(content: bytes, head_bytes: int = 4096) -> Layout:
    """Return the layout, reading more as `Cut` asks."""
    while True:
        try:
            return layout_of(content[:head_bytes], len(content))
        except Cut as cut:
            if cut.needed > len(content):
                raise NoLayout from None
            head_bytes = max(cut.needed, head_bytes + 1)


def encapsulated(frames: list[bytes], *, extended: bool, table: bool = True) -> bytes:
    [(_, image)] = list(ct_series(images=1, size=8))
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = JPEGLSLossless
    image.NumberOfFrames = len(frames)
    if extended:
        parts = encapsulate_extended(frames)
        image.PixelData, image.ExtendedOffsetTable, image.ExtendedOffsetTableLengths = parts
    else:
        image.PixelData = encapsulate(frames, has_bot=table)
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("extended", [False, True])
def test_frames_stand_where_the_offset_tables_say(extended: bool) -> None:
    frames = [bytes([number]) * (2 * number + 2) for number in range(1, 40)]
    content = encapsulated(frames, extended=extended)
    layout = found(content)
    assert layout.frames == 39
    for number, frame in enumerate(frames):
        start, end = layout.span(number)
        assert codestream(content[start:end]) == frame
    with pytest.raises(NoLayout):
        layout.span(39)


def test_without_a_table_frames_are_not_guessed() -> None:
    with pytest.raises(NoLayout):
        found(encapsulated([b"ab", b"cd", b"ef"], extended=False, table=False))


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 3000))
def test_damaged_objects_raise_nothing_else(noise: bytes, place: int) -> None:
    content = bytearray(encapsulated([b"abcd"] * 5, extended=False))
    content[place : place + len(noise)] = noise
    try:
        layout = layout_of(bytes(content), len(content))
    except (NoLayout, Cut):
        return
    for number in range(min(layout.frames, 10)):
        try:
            start, end = layout.span(number)
            codestream(bytes(content[start:end]))
        except NoLayout:
            continue


def test_real_objects_have_their_frames_where_pydicom_finds_them(real_data: Path | None) -> None:
    if real_data is None:
        pytest.skip("needs the real data set")
    compared = 0
    for file in sorted(real_data.rglob("*.dcm")):
        if file.stat().st_size > 1 << 20:
            continue
        content = file.read_bytes()
        try:
            layout = found(content)
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            pixels = dataset.PixelData
        except Exception:
            continue
        if layout.encapsulated:
            count = int(dataset.get("NumberOfFrames") or 1)
            extended = None
            if "ExtendedOffsetTable" in dataset:
                extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
            try:
                frames = list(
                    generate_frames(pixels, number_of_frames=count, extended_offsets=extended)
                )
            except ValueError:
                continue
        else:
            size = layout.frame_bytes or len(pixels)
            frames = [pixels[at : at + size] for at in range(0, layout.frames * size, size)]
        for number in (0, len(frames) // 2, len(frames) - 1):
            if not layout.encapsulated and not layout.frame_bytes:
                continue
            start, end = layout.span(number)
            mine = content[start:end]
            try:
                mine = codestream(mine) if layout.encapsulated else mine
            except NoLayout:
                continue  # damaged: a worker is asked then
            assert mine == frames[number], (file.name, number)
            compared += 1
    assert compared > 200
