# SPDX-License-Identifier: Apache-2.0
"""DIMSE in numbers: command fields, statuses and command elements (PS3.7 annexes C, E)."""

from typing import Final

# Command fields, PS3.7 table E.1-1
C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
N_EVENT_REPORT_RQ: Final = 0x0100
N_GET_RQ: Final = 0x0110
N_SET_RQ: Final = 0x0120
N_ACTION_RQ: Final = 0x0130
N_CREATE_RQ: Final = 0x0140
N_DELETE_RQ: Final = 0x0150
C_CANCEL_RQ: Final = 0x0FFF
RESPONSE: Final = 0x8000  # the bit that makes a request's field its response's

# Statuses, PS3.7 annex C and PS3.4 annexes B, C
SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_WARNING: Final = 0xFF01  # and some optional keys are not supported
CANCEL: Final = 0xFE00
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORIZED: Final = 0x0124
DUPLICATE_INVOCATION: Final = 0x0210
UNRECOGNIZED_OPERATION: Final = 0x0211
RESOURCE_LIMITATION: Final = 0x0213
OUT_OF_RESOURCES: Final = 0xA700
UNABLE_TO_PERFORM_SUB_OPERATIONS: Final = 0xA702
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
SUB_OPERATIONS_WARNING: Final = 0xB000
CANNOT_UNDERSTAND: Final = 0xC000


# Command elements, PS3.7 table E.1-1. All are in group 0000.
GROUP_LENGTH: Final = 0x0000
AFFECTED_SOP_CLASS_UID: Final = 0x0002
REQUESTED_SOP_CLASS_UID: Final = 0x0003
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_RESPONDED: Final = 0x0120
MOVE_DESTINATION: Final = 0x0600
PRIORITY: Final = 0x0700
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
OFFENDING_ELEMENT: Final = 0x0901
ERROR_COMMENT: Final = 0x0902
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
REQUESTED_SOP_INSTANCE_UID: Final = 0x1001
EVENT_TYPE_ID: Final = 0x1002
ATTRIBUTE_IDENTIFIER_LIST: Final = 0x1005
ACTION_TYPE_ID: Final = 0x1008
REMAINING: Final = 0x1020
COMPLETED: Final = 0x1021
FAILED: Final = 0x1022
WARNING: Final = 0x1023
MOVE_ORIGINATOR: Final = 0x1030
MOVE_ORIGINATOR_ID: Final = 0x1031

NO_DATA_SET: Final = 0x0101
HAS_DATA_SET: Final = 0x0001  # anything but 0101

# Services that name what they act on as Requested, not Affected (PS3.7 section 10.3).
NAMES_REQUESTED: Final = frozenset({N_GET_RQ, N_SET_RQ, N_ACTION_RQ, N_DELETE_RQ})


def is_pending(status: int) -> bool:
    """Tell whether further responses follow one with this status (PS3.7 annex C.4)."""
    return status in (PENDING, PENDING_WARNING)
