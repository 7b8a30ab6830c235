# SPDX-License-Identifier: Apache-2.0
"""Jobs for DICOMweb: an object put together from metadata and bulk data (PS3.18 section 10.5).

The source is a memory file: eight bytes with the length of a JSON text, the text, the bulk data.
The text says `dataset` (DICOM JSON) or `xml` (Native DICOM Model), `transfer_syntax`, and `bulk`:
address → start, length, media type of each value behind the text. Worker process only.
"""

import json
import os
import xml.etree.ElementTree as ET
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

from .errors import DecodeFailed
from .protocol import seal

MAX_XML_DEPTH: Final = 64
_LENGTH_BYTES: Final = 8
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_PIXELS: Final = 0x7FE00010
# media type of compressed pixel data → its syntax where the client says none (table 8.7.3-4)
_SYNTAXES: Final = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
}


def compose(request: dict[str, Any], fd: int) -> tuple[dict[str, Any], int]:
    """Write one Part 10 file; the answer names its UIDs."""
    del request
    length = int.from_bytes(os.pread(fd, _LENGTH_BYTES, 0), "little")
    said = json.loads(os.pread(fd, length, _LENGTH_BYTES))
    described = _of_xml(said["xml"]) if "xml" in said else said["dataset"]
    bulk = _Bulk(fd, _LENGTH_BYTES + length, said["bulk"])
    dataset, syntax = _dataset(described, bulk)
    result = os.memfd_create("scrigno-composed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(result), "wb") as target:
            _write(dataset, syntax, target)
        seal(result)
    except BaseException:
        os.close(result)
        raise
    return {"sop_class_uid": str(dataset.get("SOPClassUID", ""))[:64]}, result


class _Bulk:
    """The values that came beside the metadata, by their addresses."""

    def __init__(self, source: int, begin: int, places: dict[str, Any]) -> None:
        self._source, self._begin, self._places = source, begin, places

    def value(self, uri: str) -> tuple[bytes, str, str]:
        """Return a value, its media type and transfer syntax; raises DecodeFailed."""
        place = self._places.get(uri)
        if place is None:
            raise DecodeFailed("The metadata name bulk data that did not come with them.")
        content = os.pread(self._source, place["length"], self._begin + place["start"])
        return content, str(place.get("type", "")), str(place.get("transfer_syntax", ""))


def _dataset(described: dict[str, Any], bulk: _Bulk) -> tuple[Dataset, str]:
    syntaxes: list[str] = []

    def fetch(tag: str, vr: str, uri: str) -> Any:
        content, media, syntax = bulk.value(uri)
        if int(tag, 16) == _PIXELS and (media in _SYNTAXES or media.startswith("video/")):
            syntaxes.append(syntax or _SYNTAXES.get(media, ""))
            return encapsulate([content])
        return _padded(content) if vr in ("OB", "OW", "UN", "OF", "OD", "OL", "OV") else content

    described = {tag: each for tag, each in described.items() if not tag.startswith("0002")}
    try:
        dataset = Dataset.from_json(described, bulk_data_uri_handler=fetch)
    except DecodeFailed:
        raise
    except Exception as error:  # noqa: BLE001 - hostile metadata reach every corner of the library
        raise DecodeFailed(f"The metadata are no data set ({type(error).__name__}).") from None
    if not dataset.get("SOPClassUID") or not dataset.get("SOPInstanceUID"):
        raise DecodeFailed("The metadata have no SOP Class UID or no SOP Instance UID.")
    # DICOM JSON and XML are UTF-8, and so is what is made of them
    dataset.SpecificCharacterSet = "ISO_IR 192"
    if syntaxes:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    return dataset, syntaxes[0] if syntaxes else ExplicitVRLittleEndian


def _padded(content: bytes) -> bytes:
    return content + b"\0" if len(content) % 2 else content


def _write(dataset: Dataset, syntax: str, target: BinaryIO) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta = meta
    try:
        pydicom.dcmwrite(
            target, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True
        )
    except Exception as error:  # noqa: BLE001 - as above
        raise DecodeFailed(f"The metadata cannot be written ({type(error).__name__}).") from None


# the Native DICOM Model (PS3.19 annex A.1) ------------------------------------------------------


def _of_xml(text: str) -> dict[str, Any]:
    try:
        root = ET.fromstring(text)  # noqa: S314 - in the sandbox, with limits of memory and time
    except ET.ParseError:
        raise DecodeFailed("The metadata are no XML document.") from None
    return _attributes(root, 0)


def _attributes(node: ET.Element, depth: int) -> dict[str, Any]:
    if depth > MAX_XML_DEPTH:
        raise DecodeFailed("The metadata are nested too deep.")
    found: dict[str, Any] = {}
    for each in node:
        tag, vr = each.get("tag", ""), each.get("vr", "UN")
        if _local(each) != "DicomAttribute" or len(tag) != 8:
            continue
        found[tag.upper()] = {"vr": vr, **_value(each, vr, depth)}
    return found


def _value(node: ET.Element, vr: str, depth: int) -> dict[str, Any]:
    values: list[Any] = []
    for each in sorted(node, key=lambda one: int(one.get("number") or 0)):
        match _local(each):
            case "BulkData":
                return {"BulkDataURI": each.get("uri", "")}
            case "InlineBinary":
                return {"InlineBinary": "".join((each.text or "").split())}
            case "Item":
                values.append(_attributes(each, depth + 1))
            case "PersonName":
                values.append(_name(each))
            case "Value":
                values.append(_plain(each.text or "", vr))
            case _:
                pass
    return {"Value": values} if values else {}


def _name(node: ET.Element) -> dict[str, str]:
    groups: dict[str, str] = {}
    for group in node:
        parts = {_local(each): each.text or "" for each in group}
        text = "^".join(parts.get(name, "") for name in _COMPONENTS).rstrip("^")
        if _local(group) in _GROUPS and text:
            groups[_local(group)] = text
    return groups


def _plain(text: str, vr: str) -> Any:
    if vr in ("US", "SS", "UL", "SL", "IS", "UV", "SV", "FL", "FD", "DS"):
        try:
            return float(text) if vr in ("FL", "FD", "DS") else int(text)
        except ValueError:
            raise DecodeFailed("The metadata hold a number that is none.") from None
    return text or None


def _local(node: ET.Element) -> str:
    return str(node.tag).rpartition("}")[2]
