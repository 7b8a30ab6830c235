# SPDX-License-Identifier: Apache-2.0
"""De-identified copies by the Basic Application Level Confidentiality Profile (PS3.15 annex E).

What becomes of each attribute stands in `deidentify_table.csv`, which is table E.1-1 (2025a): the
column `basic` and one for each option. Where the profile leaves the choice (X/Z/D) the attribute
gets a dummy value, which every object may have. Private attributes go. UIDs and the patient become
others by a key of the job: the same ones inside it, and nobody finds the way back without the key.

Pixels stay as they are: what is burnt into them stays readable, and `burnt_in` says where to look.
"""

import csv
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

from .errors import DecodeFailed

TABLE: Final = Path(__file__).with_name("deidentify_table.csv")
CHUNK_BYTES: Final = 1 << 20
MOST_DEPTH: Final = 32
PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
ICONS: Final = 0x00880200  # pictures of pictures; not in the table
MASKED: Final = "Anonymised"
# option → code of PS3.16 CID 7050 and its meaning
CODES: Final[Mapping[str, tuple[str, str]]] = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "descriptors": ("113105", "Clean Descriptors Option"),
    "dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "shifted": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "patient": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
}
# What these hold is text or documents through and through: a dummy would leave nothing of them.
_NOT_POSSIBLE: Final = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(88|104)\..*")
_DUMMIES: Final[Mapping[str, Any]] = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y", "CS": "ANON",
    "IS": "0", "DS": "0", "US": 0, "UL": 0, "SS": 0, "SL": 0, "FD": 0.0, "FL": 0.0, "SV": 0,
    "UV": 0, "AT": 0, "OB": b"\0\0", "OW": b"\0\0", "OF": bytes(4), "OD": bytes(8),
    "OL": bytes(4), "OV": bytes(8), "UN": b"", "UR": "urn:none",
}  # fmt: skip
_BURNT_MODALITIES: Final = frozenset({"US", "IVUS", "ES", "XC", "OT", "SC", "DOC", "GM", "SM"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How to de-identify. `options` are columns of the table; `key` belongs to one job."""

    key: bytes
    options: frozenset[str] = frozenset()
    patient_name: str = ""
    patient_id: str = ""
    days: int = 0  # by which dates are moved with the option "shifted"

    def uid(self, uid: str) -> str:
        """Return the UID that stands for `uid` in this job (PS3.5 annex B.2)."""
        digest = hmac.digest(self.key, uid.encode("ascii", "replace"), hashlib.sha256)
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def pseudonym(self, text: str) -> str:
        """Return the word that stands for a patient in this job."""
        return hmac.digest(self.key, text.encode("utf-8"), hashlib.sha256).hex()[:10].upper()


@dataclass(slots=True)
class _Actions:
    """The table as it applies to one set of options."""

    exact: dict[int, str] = field(default_factory=dict)
    repeated: dict[tuple[int, int | None], str] = field(default_factory=dict)  # 50xx, 60xx

    def of(self, tag: BaseTag) -> str:
        found = self.exact.get(int(tag))
        if found is None and (tag.group & 0xFF00) in (0x5000, 0x6000):
            top = tag.group & 0xFF00
            found = self.repeated.get((top, tag.element)) or self.repeated.get((top, None))
        return found or ""


def _rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(newline="", encoding="ascii") as file:
        return tuple(csv.DictReader(file))


_ROWS: Final = _rows()  # before the sandbox closes


def actions_for(options: Iterable[str]) -> _Actions:
    """Read the table; an option's K (keep) or C (clean) goes before the basic profile."""
    wanted = [name for name in CODES if name in options and name != "basic"]
    found = _Actions()
    for row in _ROWS:
        special = next((row[name] for name in wanted if row[name]), "")
        action = _resolved(row["basic"], special, row, wanted)
        tag = row["tag"]
        if "x" in tag:
            element = None if tag.endswith("xxxx") else int(tag[4:], 16)
            found.repeated[int(tag[:2], 16) << 8, element] = action
        else:
            found.exact[int(tag, 16)] = action
    found.exact[ICONS] = "X"
    return found


def _resolved(basic: str, special: str, row: Mapping[str, str], wanted: list[str]) -> str:
    if special == "K":
        return "K"
    if special == "C":
        return "T" if row.get("shifted") and "shifted" in wanted else "C"
    if "U" in basic:
        return "U"
    return "D" if "D" in basic else "Z" if "Z" in basic else basic


class Deidentifier:
    """De-identifies objects of one job, one after the other."""

    def __init__(self, wishes: Wishes) -> None:
        """Read the table for these wishes."""
        self._wishes = wishes
        self._actions = actions_for(wishes.options)

    def copy(self, source: int, target: int) -> dict[str, Any]:
        """Write a de-identified copy of the Part 10 file `source`; say what to look at.

        Both are descriptors; raises DecodeFailed for what cannot be de-identified.
        """
        with os.fdopen(os.dup(source), "rb") as stream:
            stream.seek(0)
            ds = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
            at = stream.tell()
            syntax = ds.file_meta.get("TransferSyntaxUID")
            if _NOT_POSSIBLE.fullmatch(str(ds.get("SOPClassUID", ""))) or not syntax:
                raise DecodeFailed("Objects of this kind are text and cannot be de-identified.")
            warns = burnt_in(ds)
            self._clean(ds, self._secrets(ds), 0)
            self._sign(ds)
            with os.fdopen(os.dup(target), "wb") as out:
                _write(out, ds, UID(syntax))
                _copy_pixels(stream, at, out, UID(syntax))
        return {"burnt_in": warns, "sop_instance_uid": str(ds.SOPInstanceUID)}

    def _secrets(self, ds: Dataset) -> re.Pattern[str] | None:
        """Return what must not stay in a description that is kept: names, numbers, dates."""
        words: set[str] = set()
        for keyword in (
            "PatientName", "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID",
            "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName",
            "PhysiciansOfRecord", "InstitutionName", "StationName", "PatientBirthName",
        ):  # fmt: skip
            words |= {w for w in re.split(r"[\^=,;\\\s]+", str(ds.get(keyword, ""))) if len(w) > 1}
        pattern = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
        digits = r"\d[\d./:-]{3,}"
        return re.compile(f"{pattern}|{digits}" if pattern else digits, re.IGNORECASE)

    def _clean(self, ds: Dataset, secrets: re.Pattern[str] | None, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise DecodeFailed("The object's sequences are nested too deep.")
        for element in list(ds):
            tag = element.tag
            if tag.is_private or tag.group % 2:
                del ds[tag]
                continue
            action = self._actions.of(tag)
            # what the table does not know and may be a name, or anything at all, goes too
            if action == "X" or (not action and element.VR in {"PN", "UN"}):
                del ds[tag]
            elif action in ("", "K"):
                self._inside(element, secrets, depth)
            else:
                self._change(ds, element, action, secrets, depth)

    def _inside(self, element: DataElement, secrets: re.Pattern[str] | None, depth: int) -> None:
        if element.VR == "SQ":
            for item in element.value or ():
                self._clean(item, secrets, depth + 1)

    def _change(
        self,
        ds: Dataset,
        element: DataElement,
        action: str,
        secrets: re.Pattern[str] | None,
        depth: int,
    ) -> None:
        wishes = self._wishes
        if element.tag == 0x00100010:  # the patient stays one and the same within the job
            wanted = wishes.patient_name or f"ANON^{wishes.pseudonym(str(ds.get('PatientID', '')))}"
            element.value = wanted
        elif element.tag == 0x00100020:
            element.value = wishes.patient_id or wishes.pseudonym(str(element.value))
        elif element.VR == "SQ":
            if action == "Z":
                element.value = Sequence([])
            else:
                self._inside(element, secrets, depth)
        elif action == "U" or element.VR == "UI":
            element.value = self._uids(element.value)
        elif action == "T":
            element.value = _moved(element, wishes.days)
        elif action == "C" and element.VR in {"LO", "SH", "ST", "LT", "UT", "UC", "PN"}:
            text = str(element.value or "")
            element.value = secrets.sub("***", text) if secrets is not None else ""
        elif action == "Z":
            element.value = None if element.VR not in {"OB", "OW", "UN"} else b""
        else:
            element.value = _DUMMIES.get(element.VR, MASKED)

    def _uids(self, value: Any) -> Any:
        if value is None or value == "":
            return value
        if isinstance(value, str):
            return UID(self._wishes.uid(value))
        return [UID(self._wishes.uid(str(each))) for each in value]

    def _sign(self, ds: Dataset) -> None:
        ds.PatientIdentityRemoved = "YES"
        used = ["basic", *(name for name in CODES if name in self._wishes.options)]
        ds.DeidentificationMethod = "PS3.15 annex E, Scrigno"
        codes = []
        for name in dict.fromkeys(used):
            item = Dataset()
            item.CodeValue, item.CodeMeaning = CODES[name][0], CODES[name][1][:64]
            item.CodingSchemeDesignator = "DCM"
            codes.append(item)
        ds.DeidentificationMethodCodeSequence = Sequence(codes)
        options = self._wishes.options
        kept = "UNMODIFIED" if "dates" in options else "MODIFIED" if "shifted" in options else ""
        ds.LongitudinalTemporalInformationModified = kept or "REMOVED"


def burnt_in(ds: Dataset) -> bool:
    """Tell whether texts may stand in the pixels: somebody says so, or it is likely."""
    said = str(ds.get("BurnedInAnnotation", "")).upper()
    if said in {"YES", "NO"}:
        return said == "YES"
    kinds = {str(each).upper() for each in ds.get("ImageType", None) or ()}
    captured = "SECONDARY" in kinds or "SCREEN SAVE" in kinds or "ConversionType" in ds
    return captured or str(ds.get("Modality", "")).upper() in _BURNT_MODALITIES


def _moved(element: DataElement, days: int) -> Any:
    """Move dates by some days; times of day say nothing without their date and stay."""
    if element.VR not in {"DA", "DT"}:
        return element.value
    text = str(element.value or "")
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return _DUMMIES[element.VR] if text else element.value
    return f"{day:%Y%m%d}{text[8:]}"


def _write(out: Any, ds: Dataset, syntax: UID) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = DicomFileLike(out)
    file.is_little_endian = True
    file.is_implicit_VR = False
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=True)
    file.is_little_endian = syntax.is_little_endian
    file.is_implicit_VR = syntax.is_implicit_VR
    write_dataset(file, ds, ds.get("SpecificCharacterSet", "ISO_IR 6"))


def _copy_pixels(stream: Any, at: int, out: Any, syntax: UID) -> None:
    """Copy the pixel elements as they stand, without what comes after them."""
    stream.seek(at)
    while head := stream.read(8):
        if len(head) < 8:
            return
        order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
        tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
        if tag not in PIXELS:
            return
        if syntax.is_implicit_VR:
            length = int.from_bytes(head[4:8], order)
        else:
            more = stream.read(4)
            head += more
            length = int.from_bytes(more, order)
        out.write(head)
        if length != 0xFFFFFFFF:
            _span(stream, out, length)
            continue
        _items(stream, out)


def _items(stream: Any, out: Any) -> None:
    """Copy the fragments of encapsulated pixels (PS3.5 annex A.4)."""
    while head := stream.read(8):
        out.write(head)
        if head[:4] != b"\xfe\xff\x00\xe0":
            return  # the delimiter, or the end of a file that is cut short
        _span(stream, out, int.from_bytes(head[4:8], "little"))


def _span(stream: Any, out: Any, length: int) -> None:
    while length > 0:
        chunk = stream.read(min(CHUNK_BYTES, length))
        if not chunk:
            raise DecodeFailed("The pixels end too early.")
        out.write(chunk)
        length -= len(chunk)
