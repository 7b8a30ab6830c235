# SPDX-License-Identifier: Apache-2.0
"""Transfer syntaxes and the media types that PS3.18 gives their frames (table 8.7.3-4)."""

from typing import Final

from scrigno.imaging.dataset import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

from .media import OCTETS

NATIVE: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED_LE, EXPLICIT_BE})
_JPEG: Final = "1.2.840.10008.1.2.4."
RLE: Final = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"

# media type of one frame as it is stored
MEDIA: Final[dict[str, str]] = {
    **dict.fromkeys((_JPEG + "50", _JPEG + "51", _JPEG + "53", _JPEG + "55", _JPEG + "57",
                     _JPEG + "70"), "image/jpeg"),
    **dict.fromkeys((_JPEG + "80", _JPEG + "81"), "image/jls"),
    **dict.fromkeys((_JPEG + "90", _JPEG + "91"), "image/jp2"),
    **dict.fromkeys((_JPEG + "92", _JPEG + "93"), "image/jpx"),
    **dict.fromkeys((_JPEG + "110", _JPEG + "111", _JPEG + "112"), "image/jxl"),
    **dict.fromkeys((_JPEG + "201", _JPEG + "202", _JPEG + "203"), "image/jphc"),
    RLE: "image/dicom-rle",
    DEFLATED_FRAMES: OCTETS,
    **dict.fromkeys((_JPEG + "100", _JPEG + "100.1", _JPEG + "101", _JPEG + "101.1"), "video/mpeg"),
    **dict.fromkeys((_JPEG + "102", _JPEG + "102.1", _JPEG + "103", _JPEG + "103.1",
                     _JPEG + "104", _JPEG + "104.1", _JPEG + "105", _JPEG + "105.1",
                     _JPEG + "106", _JPEG + "106.1", _JPEG + "107", _JPEG + "108"), "video/mp4"),
}  # fmt: skip

# what a media type means when its transfer syntax is not said (PS3.18 table 8.7.3-4, "D")
DEFAULT_OF: Final[dict[str, str]] = {
    "image/jpeg": _JPEG + "70",
    "image/jls": _JPEG + "80",
    "image/jp2": _JPEG + "90",
    "image/jpx": _JPEG + "92",
    "image/jphc": _JPEG + "201",
    "image/jxl": _JPEG + "110",
    "image/dicom-rle": RLE,
    OCTETS: EXPLICIT_LE,
}
# what frames are made in on request, losslessly, beside the native form
MADE: Final = frozenset({EXPLICIT_LE, _JPEG + "90", _JPEG + "201", _JPEG + "202", RLE})


def media_of(transfer_syntax_uid: str) -> str:
    """Return the media type of a stored frame; octets for native and unknown syntaxes."""
    return MEDIA.get(transfer_syntax_uid, OCTETS)


def is_video(transfer_syntax_uid: str) -> bool:
    """Tell whether the pixel data are a film, which nobody here decodes."""
    return media_of(transfer_syntax_uid).startswith("video/")
