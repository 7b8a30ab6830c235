# SPDX-License-Identifier: Apache-2.0
"""What people find on an exported medium besides the images: a page and a text to read first."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Record = Mapping[str, Any]  # a directory record as DICOM JSON

_PATIENT_NAME: Final = "00100010"
_PATIENT_ID: Final = "00100020"
_STUDY_DATE: Final = "00080020"
_STUDY_TEXT: Final = "00081030"
_MODALITY: Final = "00080060"


@dataclass(slots=True)
class StudyLine:
    """One study on the page."""

    patient: str
    patient_id: str
    date: str
    text: str
    folder: str
    modalities: set[str] = field(default_factory=set)
    images: int = 0


class Contents:
    """Gathers what the page lists from the records of the directory, so it says no more."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._studies: dict[str, StudyLine] = {}

    def add(self, records: Sequence[Record], folder: str) -> None:
        """Count one object under its study."""
        if len(records) < 3:
            return
        patient, study, series = records[:3]
        line = self._studies.get(folder)
        if line is None:
            line = self._studies[folder] = StudyLine(
                patient=_text(patient, _PATIENT_NAME),
                patient_id=_text(patient, _PATIENT_ID),
                date=_text(study, _STUDY_DATE),
                text=_text(study, _STUDY_TEXT),
                folder=folder,
            )
        line.modalities.add(_text(series, _MODALITY))
        line.images += 1

    def page(self, *, anonymised: bool) -> bytes:
        """Return the page as HTML without any script; every text is escaped."""
        rows = "".join(_row(line) for line in self._studies.values())
        note = (
            "<p>The images were de-identified (DICOM PS3.15, Basic Profile). Texts that are part "
            "of the pictures themselves were not removed.</p>"
            if anonymised
            else ""
        )
        return _PAGE.format(rows=rows, note=note).encode("utf-8")


def _row(line: StudyLine) -> str:
    date = line.date
    if len(date) == 8:
        date = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    cells = (
        line.patient.replace("^", " "),
        line.patient_id,
        date,
        " ".join(sorted(line.modalities)),
        line.text,
        str(line.images),
    )
    link = html.escape(line.folder, quote=True)
    body = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr>{body}<td><a href="{link}/">{link}</a></td></tr>\n'


def _text(record: Record, tag: str) -> str:
    values = record.get(tag, {}).get("Value") or [""]
    first = values[0]
    if isinstance(first, Mapping):
        first = first.get("Alphabetic") or first.get("Ideographic") or ""
    return str(first)[:200]


def readme(lines: Iterable[str]) -> bytes:
    """Return the text to read first, with lines as old systems want them."""
    return "".join(f"{line}\r\n" for line in lines).encode("ascii", "replace")


README: Final = (
    "This medium holds medical images in DICOM format.",
    "",
    "DICOMDIR      the directory that DICOM programs open",
    "INDEX.HTM     the same in words, for any browser",
    "DICOM         the images",
    "",
    "To look at the images, open the medium in a DICOM viewer.",
    "What is on it is confidential: keep it as you would keep a medical record.",
)

_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Medical images</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body{{font-family:sans-serif;margin:2em}}table{{border-collapse:collapse}}
td,th{{border:1px solid #888;padding:.3em .6em;text-align:left}}</style></head>
<body><h1>Medical images</h1>{note}
<table><thead><tr><th>Patient</th><th>ID</th><th>Date</th><th>Modality</th><th>Description</th>
<th>Objects</th><th>Folder</th></tr></thead><tbody>
{rows}</tbody></table>
<p>DICOM programs open the file DICOMDIR beside this page.</p></body></html>
"""
