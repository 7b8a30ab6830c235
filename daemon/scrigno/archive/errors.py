# SPDX-License-Identifier: Apache-2.0
"""Why an object was not taken in or could not be read: one class per way, each with its code.

A door maps the class to its own status (PS3.4 table B.2-1 for C-STORE, PS3.18 for STOW-RS); the
reason is a sentence without patient data, fit for an ErrorComment and a log line.
"""

from scrigno.core.errors import ScrignoError


class IngestError(ScrignoError):
    """The object was not taken in; nothing of it is left and nothing was acknowledged."""

    code = "not-taken-in"


class NoDurableStorage(IngestError):
    """No volume, or not the staging disk, can make the object durable now (A700)."""

    code = "no-durable-storage"


class IndexUnavailable(NoDurableStorage):
    """The index did not take the row and staging does not keep the object (A700).

    Its files are durable on volumes, but nothing would bring the row back. What staging keeps is
    acknowledged without its row (`Receipt.pending`). A second delivery is the same object.
    """

    code = "index-unavailable"


class InternalFault(IngestError):
    """A fault of ours; the object may come in all the same, sent again it is the same (A700)."""

    code = "internal-fault"


class CapacityReached(IngestError):
    """A limit of the settings is reached, for example the number of studies (A700)."""

    code = "capacity-reached"


class ObjectTooLarge(IngestError):
    """The object is larger than the settings allow (A700)."""

    code = "object-too-large"


class ShuttingDown(IngestError):
    """The archive takes nothing more in, it is being stopped (A700)."""

    code = "shutting-down"


class UidMismatch(IngestError):
    """The data set names another SOP Class or Instance than the command or file meta (A900)."""

    code = "uid-mismatch"


class ObjectUnreadable(IngestError):
    """The data set cannot be understood and nothing valid names it either (C000)."""

    code = "object-unreadable"


class NotDicom(ObjectUnreadable):
    """The bytes are no DICOM file."""

    code = "not-dicom"


class ObjectUnavailable(ScrignoError):
    """No healthy copy of a stored object can be read now."""

    code = "object-unavailable"


class InboxError(ScrignoError):
    """An inbox item cannot be accepted or rejected now."""

    code = "inbox-refused"


class NotNow(InboxError):
    """What was decided waits for a volume that is away."""

    code = "inbox-waits"
