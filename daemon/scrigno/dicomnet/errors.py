# SPDX-License-Identifier: Apache-2.0

"""How an association can fail, one class each."""

from typing import ClassVar

from scrigno.core.errors import ScrignoError


class DicomNetError(ScrignoError):
    """Root of this room's errors."""

    code: ClassVar[str] = "dicom-network"


class ConnectFailed(DicomNetError):
    """No TCP or TLS connection, or no answer to our A-ASSOCIATE-RQ in time."""

    code = "dicom-connect-failed"


class AssociationRejected(DicomNetError):
    """The peer sent A-ASSOCIATE-RJ; the three numbers are those of PS3.8 table 9-21."""

    code = "dicom-association-rejected"

    def __init__(self, result: int, source: int, reason_code: int, words: str) -> None:
        super().__init__(words)
        self.result = result
        self.source = source
        self.reason_code = reason_code


class AssociationLost(DicomNetError):
    """The association ended before the operation did."""

    code = "dicom-association-lost"


class NoAnswer(DicomNetError):
    """The peer did not answer a request in time; the association was aborted."""

    code = "dicom-no-answer"


class NoSuchContext(DicomNetError):
    """No accepted presentation context allows the request in the role it needs."""

    code = "dicom-no-context"


class UnreadablePdu(DicomNetError):
    """Bytes that are no PDU or no command set; `abort_reason` is that of PS3.8 table 9-26."""

    code = "dicom-unreadable-pdu"

    def __init__(self, words: str, abort_reason: int = 6) -> None:
        super().__init__(words)
        self.abort_reason = abort_reason
