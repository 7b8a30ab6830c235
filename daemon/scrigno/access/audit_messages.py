# SPDX-License-Identifier: Apache-2.0
"""Lines of the trail as DICOM audit messages (PS3.15 A.5) inside syslog messages (PS3.15 A.6).

A message holds what the line holds: account names, UIDs, addresses. No name, id or birth date of
a patient is in it, so the patient as a participant object is left out.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Final
from xml.etree import ElementTree

from .audit import OWN, Action
from .audit_search import Recorded

DCM: Final = "DCM"
OUR_CODES: Final = "99SCRIGNO"  # PS3.3 section 8.2: 99 begins the name of a private scheme
# PS3.15 A.6.1: facility 10 (security/authorization), severity 5 (notice); MSGID of table A.6-1.
PRIORITY: Final = 10 * 8 + 5
MSGID: Final = "DICOM+RFC3881"
BOM: Final = "\ufeff"  # RFC 5424 section 6.4: the text is UTF-8
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_NOT_HEADER: Final = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded word."""

    value: str
    meaning: str
    system: str = DCM


@dataclass(frozen=True, slots=True)
class Event:
    """What an action is in the standard: EventID, EventTypeCode, EventActionCode (A.5.2)."""

    identity: Code
    kind: Code | None = None
    act: str = "E"  # create, read, update, delete, execute


_ACTIVITY: Final = Code("110100", "Application Activity")
_LOG_USED: Final = Code("110101", "Audit Log Used")
_BEGIN: Final = Code("110102", "Begin Transferring DICOM Instances")
_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
_DELETED: Final = Code("110105", "DICOM Study Deleted")
_EXPORT: Final = Code("110106", "Export")
_IMPORT: Final = Code("110107", "Import")
_NETWORK: Final = Code("110108", "Network Entry")
_ORDER: Final = Code("110109", "Order Record")
_PATIENT: Final = Code("110110", "Patient Record")
_PROCEDURE: Final = Code("110111", "Procedure Record")
_QUERY: Final = Code("110112", "Query")
_ALERT: Final = Code("110113", "Security Alert")
_AUTHENTICATION: Final = Code("110114", "User Authentication")

EVENTS: Final[Mapping[str, Event]] = {
    Action.APPLICATION_START: Event(_ACTIVITY, Code("110120", "Application Start")),
    Action.APPLICATION_STOP: Event(_ACTIVITY, Code("110121", "Application Stop")),
    Action.AUDIT_LOG_USED: Event(_LOG_USED, None, "R"),
    Action.BEGIN_TRANSFERRING: Event(_BEGIN),
    Action.INSTANCES_ACCESSED: Event(_ACCESSED, None, "R"),
    Action.INSTANCES_TRANSFERRED: Event(_TRANSFERRED, None, "C"),
    Action.STUDY_DELETED: Event(_DELETED, None, "D"),
    Action.EXPORT: Event(_EXPORT, None, "R"),
    Action.IMPORT: Event(_IMPORT, None, "C"),
    Action.NETWORK_ATTACH: Event(_NETWORK, Code("110124", "Attach")),
    Action.NETWORK_DETACH: Event(_NETWORK, Code("110125", "Detach")),
    Action.QUERY: Event(_QUERY),
    Action.PATIENT_RECORD: Event(_PATIENT, None, "U"),
    Action.PROCEDURE_RECORD: Event(_PROCEDURE, None, "U"),
    Action.ORDER_RECORD: Event(_ORDER, None, "U"),
    Action.LOGIN: Event(_AUTHENTICATION, Code("110122", "Login")),
    Action.LOGOUT: Event(_AUTHENTICATION, Code("110123", "Logout")),
    Action.SECURITY_ALERT: Event(_ALERT),
    Action.NODE_AUTHENTICATION: Event(_ALERT, Code("110126", "Node Authentication")),
    Action.NETWORK_CONFIGURATION: Event(_ALERT, Code("110128", "Network Configuration")),
    Action.SECURITY_CONFIGURATION: Event(_ALERT, Code("110129", "Security Configuration")),
    Action.HARDWARE_CONFIGURATION: Event(_ALERT, Code("110130", "Hardware Configuration")),
    Action.SOFTWARE_CONFIGURATION: Event(_ALERT, Code("110131", "Software Configuration")),
    Action.RECORDING_STARTED: Event(_ALERT, Code("110134", "Audit Recording Started")),
    Action.RECORDING_STOPPED: Event(_ALERT, Code("110133", "Audit Recording Stopped")),
    Action.PATIENT_KEPT: Event(_PATIENT, Code("patient-conflict-kept", "", OUR_CODES), "R"),
    Action.PATIENT_MERGED: Event(_PATIENT, Code("patient-merged", "", OUR_CODES), "U"),
    Action.PATIENT_SPLIT: Event(_PATIENT, Code("patient-split", "", OUR_CODES), "U"),
    Action.PATIENT_FIXED: Event(_PATIENT, Code("patient-fixed", "", OUR_CODES), "U"),
}
# Actions that callers name by words of their own, by what the word begins with.
_BY_WORD: Final[tuple[tuple[str, Event], ...]] = (
    ("study-delete", Event(_DELETED, None, "D")),
    ("trash-purge", Event(_DELETED, None, "D")),
    ("export", Event(_EXPORT, None, "R")),
    ("share", Event(_EXPORT, None, "R")),
    ("print", Event(_EXPORT, None, "R")),
    ("import", Event(_IMPORT, None, "C")),
    ("upload", Event(_IMPORT, None, "C")),
    ("send", Event(_BEGIN)),
    ("retrieve", Event(_TRANSFERRED, None, "R")),
    ("login", Event(_AUTHENTICATION, Code("110122", "Login"))),
    ("account", Event(_ALERT, Code("110129", "Security Configuration"))),
    ("session", Event(_ALERT, Code("110129", "Security Configuration"))),
    ("settings", Event(_ALERT, Code("110131", "Software Configuration"))),
    ("volume", Event(_ALERT, Code("110130", "Hardware Configuration"))),
)


def event_of(action: str) -> Event:
    """Return what an action is in the standard, or a word of our own scheme."""
    found = EVENTS.get(action)
    if found is not None:
        return found
    for word, event in _BY_WORD:
        if action.startswith(word):
            return Event(event.identity, event.kind or Code(action, "", OUR_CODES), event.act)
    return Event(Code(action, "", OUR_CODES))


def message(line: Recorded, *, source: str) -> bytes:
    """Return one line as the XML of PS3.15 A.5.1; `source` names this box."""
    event = event_of(line.action)
    root = ElementTree.Element("AuditMessage")
    identification = ElementTree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.act,
        EventDateTime=line.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator="0" if line.outcome == "success" else "4",  # minor failure
    )
    _coded(identification, "EventID", event.identity)
    if event.kind is not None:
        _coded(identification, "EventTypeCode", event.kind)
    if line.outcome != "success":
        described = ElementTree.SubElement(identification, "EventOutcomeDescription")
        described.text = _clean(line.outcome)
    _participants(root, line, source)
    ElementTree.SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source))
    _objects(root, line)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _participants(root: ElementTree.Element, line: Recorded, source: str) -> None:
    person = ElementTree.SubElement(
        root, "ActiveParticipant", UserID=_clean(line.who) or "unknown", UserIsRequestor="true"
    )
    address = line.details.get("address") or line.details.get("host")
    if address:
        is_address = re.fullmatch(r"[0-9a-fA-F.:]+", address) is not None
        person.set("NetworkAccessPointID", _clean(address))
        person.set("NetworkAccessPointTypeCode", "2" if is_address else "1")
    if line.who != OWN:
        ElementTree.SubElement(
            root, "ActiveParticipant", UserID=f"{OWN}@{_clean(source)}", UserIsRequestor="false"
        )


def _objects(root: ElementTree.Element, line: Recorded) -> None:
    """Append what was acted on: a study, or a system object."""
    study = _UID.fullmatch(line.subject) is not None
    node = ElementTree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(line.subject) or "unknown",
        ParticipantObjectTypeCode="2",  # system object
        ParticipantObjectTypeCodeRole="3" if study else "13",  # report; security resource
    )
    kind = Code("110180", "Study Instance UID") if study else Code("subject", "", OUR_CODES)
    _coded(node, "ParticipantObjectIDTypeCode", kind)
    numbered = {"number": str(line.number), **line.details}
    for name, value in numbered.items():
        ElementTree.SubElement(
            node,
            "ParticipantObjectDetail",
            type=_clean(name),
            value=base64.b64encode(value.encode("utf-8", "replace")).decode(),
        )


def _coded(parent: ElementTree.Element, name: str, code: Code) -> None:
    ElementTree.SubElement(
        parent,
        name,
        {
            "csd-code": _clean(code.value),
            "codeSystemName": code.system,
            "originalText": _clean(code.meaning or code.value),
        },
    )


def _clean(text: str) -> str:
    """Return a text that XML 1.0 can hold."""
    return _NOT_XML.sub("�", text)


def syslog(line: Recorded, *, source: str, process: str) -> bytes:
    """Return one line as a message of RFC 5424 section 6, without the framing of a transport."""
    at = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    host = _NOT_HEADER.sub("_", source)[:255] or "-"
    head = f"<{PRIORITY}>1 {at} {host} {OWN} {process} {MSGID} - {BOM}"
    return head.encode() + message(line, source=source)
