# SPDX-License-Identifier: Apache-2.0

"""The ways in which reading an object fails. No reason ever holds a value of the object."""

from scrigno.core.errors import ScrignoError


class ImagingError(ScrignoError):
    """The root of this room's errors."""

    code = "imaging-failed"


class NotDicom(ImagingError):
    """The bytes are no DICOM file, or their file meta information cannot be followed."""

    code = "not-dicom"


class HeaderUnreadable(ImagingError):
    """The data set cannot be followed up to the UIDs that identify it.

    `likely_transfer_syntax` is set when the bytes look like another encoding than the label says.
    """

    code = "header-unreadable"

    def __init__(self, reason: str, *, likely_transfer_syntax: str = "") -> None:
        """Keep the reason and, when known, the transfer syntax that the bytes look like."""
        super().__init__(reason)
        self.likely_transfer_syntax = likely_transfer_syntax


class HeaderIncomplete(ImagingError):
    """The head ends before the attributes wanted; read at least `needed_bytes` and try again.

    `needed_bytes` counts from the first byte of the data set (of the deflated stream for
    Deflated Explicit VR Little Endian).
    """

    code = "header-incomplete"

    def __init__(self, reason: str, *, needed_bytes: int) -> None:
        """Keep how many bytes of the data set are needed at least."""
        super().__init__(reason)
        self.needed_bytes = needed_bytes


class DecodeFailed(ImagingError):
    """The object's pixels or attributes could not be made out; the object itself stays as it is."""

    code = "decode-failed"


class DecodeTimeout(DecodeFailed):
    """Decoding took longer than it may; the worker was ended and replaced."""

    code = "decode-timeout"


class UnsupportedSyntax(ImagingError):
    """No decoder for this transfer syntax, or no way from it to the one wanted."""

    code = "unsupported-transfer-syntax"


class NoPixels(ImagingError):
    """The object has no pixel data to show."""

    code = "no-pixel-data"


class NoSuchFrame(ImagingError):
    """The object has fewer frames than the number asked for."""

    code = "no-such-frame"


class NoSuchValue(ImagingError):
    """The object has no attribute at this path."""

    code = "no-such-value"


class NoDocument(ImagingError):
    """The object is no document, report, waveform, video or presentation of images."""

    code = "no-document"


class ImagingClosed(ImagingError):
    """The pool of imaging workers is shutting down."""

    code = "imaging-closed"


class ImagingBusy(ImagingError):
    """More pictures are asked for than the workers can make in a sensible time."""

    code = "imaging-busy"
