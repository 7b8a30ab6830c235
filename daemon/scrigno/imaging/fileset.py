# SPDX-License-Identifier: Apache-2.0
"""DICOMDIR of a medium (PS3.10 section 8, PS3.3 annex F), made in an imaging worker.

`records_of` reads one object into its directory records; `directory_of` puts the records of all
objects together. In between they travel as DICOM JSON.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pydicom
from pydicom import fileset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

from .errors import DecodeFailed

IN_USE: Final = 0xFFFF
# What a record must have and objects in the field do not; the values say nothing about anybody.
_FILLED: Final[Mapping[str, str]] = {
    "PatientID": "UNKNOWN",
    "StudyDate": "19000101",
    "StudyTime": "000000",
    "StudyID": "0",
    "Modality": "OT",
    "SeriesNumber": "0",
    "InstanceNumber": "0",
    "ContentDate": "19000101",
    "ContentTime": "000000",
}
_PREFIX: Final = struct.Struct("<2H2sHL2H2sHH2H2sHL")  # (0004,1400), (0004,1410), (0004,1420)
_ITEM: Final = struct.Struct("<2HL")
_SEQUENCE: Final = struct.Struct("<2H2sHL")
_OFFSETS: Final = struct.Struct("<2H2sHL2H2sHL2H2sHH")  # (0004,1200), (0004,1202), (0004,1212)
_LEVELS: Final = ("PATIENT", "STUDY", "SERIES")


def records_of(stream: Any) -> list[dict[str, Any]]:
    """Return the directory records of one object, from the highest level to its own, as JSON.

    Raises DecodeFailed.
    """
    ds = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
    for keyword, value in _FILLED.items():
        if ds.get(keyword) in (None, ""):
            setattr(ds, keyword, value)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not ds.get(keyword):
            raise DecodeFailed("The object lacks what a directory of media must say.")
    if "PatientName" not in ds:
        ds.PatientName = ""
    single = fileset._single_level_record_type(ds)
    leaf = single if single != "PATIENT" else fileset._four_level_record_type(ds)
    found = [] if single != "PATIENT" else [_record(level, ds) for level in _LEVELS]
    found.append(_leaf(leaf, ds))
    return [record.to_json_dict() for record in found]


def _record(kind: str, ds: Dataset) -> Dataset:
    try:
        record = fileset.DIRECTORY_RECORDERS[kind](ds)
    except (ValueError, AttributeError, KeyError) as error:
        raise DecodeFailed("The object lacks what a directory of media must say.") from error
    record.DirectoryRecordType = kind
    if "SpecificCharacterSet" in ds:
        record.SpecificCharacterSet = ds.SpecificCharacterSet
    return record


def _leaf(kind: str, ds: Dataset) -> Dataset:
    try:
        record = _record(kind, ds)
    except DecodeFailed:
        # PS3.3 F.5.1: what has no record of its own is private to who understands the class
        record = Dataset()
        record.DirectoryRecordType = "PRIVATE"
        record.PrivateRecordUID = ds.SOPClassUID
    record.ReferencedSOPClassUIDInFile = ds.SOPClassUID
    record.ReferencedSOPInstanceUIDInFile = ds.SOPInstanceUID
    record.ReferencedTransferSyntaxUIDInFile = ds.file_meta.TransferSyntaxUID
    return record


class _Node:
    """A record and what lies below it."""

    __slots__ = ("at", "below", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.below: dict[str, _Node] = {}
        self.at = 0


def directory_of(lines: Iterable[bytes], *, file_set_id: str) -> bytes:
    """Return a DICOMDIR; each line is JSON `[parts of the file's path, records]`."""
    root = _Node(b"")
    for line in lines:
        if not line.strip():
            continue
        parts, records = json.loads(line)
        node = root
        for number, described in enumerate(records):
            last = number + 1 == len(records)
            record = Dataset.from_json(described)
            key = "/".join(parts) if last else _key(record)
            if key not in node.below:
                if last:
                    record.ReferencedFileID = list(parts)
                node.below[key] = _Node(_encoded(record))
            node = node.below[key]
    return _written(root, file_set_id)


def _key(record: Dataset) -> str:
    match record.DirectoryRecordType:
        case "PATIENT":
            return f"{record.PatientID}\\{record.PatientName}"
        case "STUDY":
            return str(record.StudyInstanceUID)
        case _:
            return str(record.SeriesInstanceUID)


def _encoded(record: Dataset) -> bytes:
    """Return the elements of a record after its offsets, which all have their place before."""
    try:
        return _bytes_of(record)
    except (UnicodeError, ValueError):
        record.SpecificCharacterSet = "ISO_IR 192"
        return _bytes_of(record)


def _bytes_of(record: Dataset) -> bytes:
    target = DicomBytesIO()
    target.is_implicit_VR = False
    target.is_little_endian = True
    write_dataset(target, record, record.get("SpecificCharacterSet", "ISO_IR 6"))
    return target.getvalue()


def _walk(nodes: Iterable[_Node]) -> Iterable[_Node]:
    for node in nodes:
        yield node
        yield from _walk(node.below.values())


def _written(root: _Node, file_set_id: str) -> bytes:
    head = DicomBytesIO()
    head.write(b"\0" * 128 + b"DICM")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    write_file_meta_info(head, meta, enforce_standard=True)
    named = file_set_id.encode("ascii")
    named += b" " * (len(named) % 2)
    head.write(struct.pack("<2H2sH", 0x0004, 0x1130, b"CS", len(named)) + named)
    first = head.tell() + _OFFSETS.size + _SEQUENCE.size
    nodes = list(_walk(root.below.values()))
    at = first
    for node in nodes:
        node.at = at
        at += _ITEM.size + _PREFIX.size + len(node.body)
    ends = list(root.below.values())
    offsets = (ends[0].at, ends[-1].at) if ends else (0, 0)
    head.write(
        _OFFSETS.pack(
            *(0x0004, 0x1200, b"UL", 4, offsets[0]),
            *(0x0004, 0x1202, b"UL", 4, offsets[1]),
            *(0x0004, 0x1212, b"US", 2, 0),
        )
    )
    head.write(_SEQUENCE.pack(0x0004, 0x1220, b"SQ", 0, at - first))
    _write_level(head, list(root.below.values()))
    return head.getvalue()


def _write_level(target: DicomBytesIO, nodes: Sequence[_Node]) -> None:
    for number, node in enumerate(nodes):
        following = nodes[number + 1].at if number + 1 < len(nodes) else 0
        below = list(node.below.values())
        lower = below[0].at if below else 0
        target.write(_ITEM.pack(0xFFFE, 0xE000, _PREFIX.size + len(node.body)))
        target.write(
            _PREFIX.pack(
                *(0x0004, 0x1400, b"UL", 4, following),
                *(0x0004, 0x1410, b"US", 2, IN_USE),
                *(0x0004, 0x1420, b"UL", 4, lower),
            )
        )
        target.write(node.body)
        _write_level(target, below)
