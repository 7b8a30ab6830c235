# SPDX-License-Identifier: Apache-2.0
"""What of a peer's proposal is accepted (PS3.8 section 9.3.3, PS3.7 annex D). Pure functions.

Storage accepts the first transfer syntax that the peer lists, whatever it is, because objects are
stored byte for byte as they come. A storage class that no dictionary names is taken like the
known ones; where the policy refuses such classes, the context is accepted all the same so that
each C-STORE gets a definite status (0122) instead of an association without contexts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from pydicom import config as pydicom_config
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import sop_class

from scrigno.core.uids import is_uid
from scrigno.dicomnet.service import Acceptance, AssociationRequest, ProposedContext, UserIdentity

# PS3.8 table 9-18
REFUSED_ABSTRACT_SYNTAX: Final = 3
REFUSED_TRANSFER_SYNTAXES: Final = 4

MAX_PIPELINED_REQUESTS: Final = 16  # operations a peer may have outstanding; bounds our memory
ANSWERED_IDENTITY_KINDS: Final = frozenset({1, 2})  # user name, with passcode (PS3.7 D.3.3.7)
STORAGE_SUPPORT: Final = bytes((2, 0, 3, 0, 1))  # level 2, bit preserving, no coercion: PS3.4 B.3.1

IDENTIFIER_SYNTAXES: Final = frozenset(
    {
        str(ImplicitVRLittleEndian),
        str(ExplicitVRLittleEndian),
        str(ExplicitVRBigEndian),
        str(DeflatedExplicitVRLittleEndian),
    }
)


class Service(StrEnum):
    """What an abstract syntax is for."""

    VERIFICATION = "verification"
    STORAGE = "storage"
    UNKNOWN = "unknown"  # private, or newer than the dictionary: taken for storage
    FIND = "find"
    MOVE = "move"
    GET = "get"


class Model(StrEnum):
    """A query/retrieve information model (PS3.4 section C.3)."""

    PATIENT_ROOT = "patient-root"
    STUDY_ROOT = "study-root"
    PATIENT_STUDY_ONLY = "patient-study-only"


QUERY_RETRIEVE: Final[Mapping[str, tuple[Model, Service]]] = {
    f"1.2.840.10008.5.1.4.1.2.{root}.{verb}": (model, service)
    for root, model in (
        (1, Model.PATIENT_ROOT),
        (2, Model.STUDY_ROOT),
        (3, Model.PATIENT_STUDY_ONLY),
    )
    for verb, service in ((1, Service.FIND), (2, Service.MOVE), (3, Service.GET))
}
VERIFICATION: Final = "1.2.840.10008.1.1"

_STORAGE: Final = frozenset(
    [
        *sop_class._STORAGE_CLASSES.values(),
        *sop_class._NON_PATIENT_OBJECT_CLASSES.values(),
    ]
)
# Named "... Storage" in the dictionary, but a service of its own or only on media.
_NOT_STORED: Final = ("1.2.840.10008.1.20", "1.2.840.10008.1.3.10")


@lru_cache(maxsize=2048)
def service_of(abstract_syntax: str) -> Service | None:
    """Return what the abstract syntax is for; None when the box does not serve it."""
    if abstract_syntax == VERIFICATION:
        return Service.VERIFICATION
    if abstract_syntax in QUERY_RETRIEVE:
        return QUERY_RETRIEVE[abstract_syntax][1]
    if abstract_syntax in _STORAGE:
        return Service.STORAGE
    if not is_uid(abstract_syntax):
        return None
    uid = UID(abstract_syntax, validation_mode=pydicom_config.IGNORE)
    if uid.name == abstract_syntax:
        return Service.UNKNOWN
    # Retired storage classes stand in the dictionary only; their objects are still sent.
    named_storage = "Storage" in uid.name and uid.type == "SOP Class"
    if named_storage and not abstract_syntax.startswith(_NOT_STORED):
        return Service.STORAGE
    return None


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What was negotiated for one query/retrieve SOP class (PS3.4 sections C.5.1.1, C.5.2.1)."""

    relational: bool = False
    combined_date_time: bool = False
    fuzzy_names: bool = False

    @staticmethod
    def parse(answered: bytes) -> "QueryOptions":
        """Read the service class application information that was answered."""
        flags = [bool(each) for each in answered[:3].ljust(3, b"\0")]
        return QueryOptions(relational=flags[0], combined_date_time=flags[1], fuzzy_names=flags[2])


def negotiate(request: AssociationRequest) -> Acceptance:
    """Return what is accepted of the proposal."""
    return Acceptance(
        contexts={each.context_id: _context(each, request.roles) for each in request.contexts},
        roles=_roles(request.roles),
        extended=_extended(request.extended),
        async_ops=_window(request.async_ops),
        user_identity_response=_identity(request.user_identity),
    )


def _context(proposed: ProposedContext, roles: Mapping[str, tuple[bool, bool]]) -> str | int:
    service = service_of(proposed.abstract_syntax)
    if service is None:
        return REFUSED_ABSTRACT_SYNTAX
    syntaxes = [each for each in proposed.transfer_syntaxes if is_uid(each)]
    if service in (Service.FIND, Service.MOVE, Service.GET):
        syntaxes = [each for each in syntaxes if each in IDENTIFIER_SYNTAXES]
    if not syntaxes:
        return REFUSED_TRANSFER_SYNTAXES
    if roles.get(proposed.abstract_syntax) == (False, True) and ExplicitVRLittleEndian in syntaxes:
        # Only we send in this context (C-GET): most objects are stored so, and go out as they are.
        return str(ExplicitVRLittleEndian)
    return syntaxes[0]


def _roles(proposed: Mapping[str, tuple[bool, bool]]) -> dict[str, tuple[bool, bool]]:
    """Let the peer be SCP of storage, for C-GET; of everything else it is SCU (PS3.7 D.3.3.4)."""
    answered = {}
    for abstract_syntax, (scu, scp) in proposed.items():
        stored = service_of(abstract_syntax) in (Service.STORAGE, Service.UNKNOWN)
        answered[abstract_syntax] = (scu, scp and stored)
    return answered


def _extended(proposed: Mapping[str, bytes]) -> dict[str, bytes]:
    answered = {}
    for abstract_syntax, wanted in proposed.items():
        match service_of(abstract_syntax):
            case Service.FIND:
                can = (1, 1, 1, 0, 0)
            case Service.MOVE | Service.GET:
                can = (1, 0, 0, 0, 0)
            case Service.STORAGE | Service.UNKNOWN:
                answered[abstract_syntax] = STORAGE_SUPPORT
                continue
            case _:
                continue
        answered[abstract_syntax] = bytes(
            able & (flag == 1) for able, flag in zip(can, wanted, strict=False)
        )
    return answered


def _window(proposed: tuple[int, int] | None) -> tuple[int, int] | None:
    """Accept pipelined requests from the peer; our own go one after another (PS3.7 D.3.3.3)."""
    if proposed is None:
        return None
    invoked = proposed[0] or MAX_PIPELINED_REQUESTS  # 0 is unlimited
    return min(invoked, MAX_PIPELINED_REQUESTS), 1


def _identity(identity: UserIdentity | None) -> bytes | None:
    """Answer a user name when asked. It gives no rights: those hang on AE title and address."""
    if identity is None or not identity.response_requested:
        return None
    return b"" if identity.kind in ANSWERED_IDENTITY_KINDS else None
