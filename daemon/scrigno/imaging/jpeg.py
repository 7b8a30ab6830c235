# SPDX-License-Identifier: Apache-2.0
"""JPEG frames that no pydicom plug-in takes, through GDCM's own decoder. Worker process only.

12 bit JPEG Extended: pydicom's plug-in for GDCM refuses it because GDCM goes by the declared bits,
not by the codestream's; told the precision of the codestream it decodes it well (compared with
dcmdjpeg in the tests).
"""

from typing import Any, Final

import gdcm
import numpy as np
from pydicom.dataset import Dataset

from .errors import DecodeFailed

EXTENDED: Final = "1.2.840.10008.1.2.4.51"
# retired processes that libjpeg knows as well: spectral selection and full progression
SPECIAL: Final = {
    "1.2.840.10008.1.2.4.53": gdcm.TransferSyntax.JPEGSpectralSelectionProcess6_8,
    "1.2.840.10008.1.2.4.55": gdcm.TransferSyntax.JPEGFullProgressionProcess10_12,
}


def precision(codestream: bytes) -> int:
    """Return the sample precision of a JPEG codestream, 0 when it has no frame header."""
    position = 2
    while position + 9 <= len(codestream) and codestream[position] == 0xFF:
        marker = codestream[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return codestream[position + 4]
        position += 2 + int.from_bytes(codestream[position + 2 : position + 4], "big")
    return 0


def decode(
    codestream: bytes, attributes: Dataset, transfer_syntax: str
) -> "np.ndarray[Any, np.dtype[Any]]":
    """Return one frame as rows × columns (× samples); raises DecodeFailed."""
    bits = precision(codestream)
    if not 2 <= bits <= 16:
        raise DecodeFailed("The JPEG codestream has no frame header.")
    rows, columns = int(attributes.Rows), int(attributes.Columns)
    samples = int(attributes.get("SamplesPerPixel") or 1)
    allocated = 8 if bits <= 8 else 16
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(_pixel_data(codestream))
    photometric = str(attributes.get("PhotometricInterpretation", "MONOCHROME2"))
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(
        gdcm.TransferSyntax(
            SPECIAL.get(transfer_syntax, gdcm.TransferSyntax.JPEGExtendedProcess2_4)
        )
    )
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, 0))
    try:
        content = image.GetBuffer().encode("utf-8", "surrogateescape")
    except Exception as error:  # noqa: BLE001 - SWIG raises whatever it likes
        raise DecodeFailed(f"GDCM cannot decode the JPEG codestream: {error}") from None
    pixels = np.frombuffer(content, f"<u{allocated // 8}")
    if pixels.size < rows * columns * samples:
        raise DecodeFailed("The JPEG codestream holds fewer pixels than the object says.")
    shape = (rows, columns, samples) if samples > 1 else (rows, columns)
    return pixels[: rows * columns * samples].reshape(shape)


def _pixel_data(codestream: bytes) -> Any:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    return element
