# SPDX-License-Identifier: Apache-2.0
"""Structured reports as HTML: any content tree of PS3.3 C.17.3, whatever its template."""

from typing import Any, Final

from pydicom.dataset import Dataset

from .page import page, text

MAX_DEPTH: Final = 30
MAX_ITEMS: Final = 20_000
_HEADING: Final = 6


def as_html(report: Dataset, *, language: str) -> tuple[bytes, str]:
    """Return the report as a page, and its title."""
    title = meaning(report.get("ConceptNameCodeSequence")) or "Structured report"
    body = [f"<h1>{text(title)}</h1>", _header(report)]
    tree = _Tree()
    tree.items(report, 1)
    body += tree.out
    if tree.left <= 0:
        body.append(f'<p class="note">The report has more than {MAX_ITEMS} entries.</p>')
    return page(title, body, language=language), title


def _header(report: Dataset) -> str:
    """Say whose report it is and how far it got."""
    name = str(report.get("PatientName") or "").partition("=")[0].replace("^", " ").strip()
    rows = [
        ("Patient", name),
        ("ID", report.get("PatientID")),
        ("Birth date", day(report.get("PatientBirthDate"))),
        ("Study", " ".join(filter(None, (day(report.get("StudyDate")),
                                         str(report.get("StudyDescription") or ""))))),
        ("Accession number", report.get("AccessionNumber")),
        ("Content", " ".join(filter(None, (day(report.get("ContentDate")),
                                           clock(report.get("ContentTime")))))),
        ("State", ", ".join(str(each).lower() for each in
                            (report.get("CompletionFlag"), report.get("VerificationFlag"))
                            if each)),
    ]  # fmt: skip
    for observer in (report.get("VerifyingObserverSequence") or ())[:10]:
        verified = str(observer.get("VerifyingObserverName") or "").replace("^", " ")
        rows.append(("Verified by", verified))
    shown = [f"<dt>{label}</dt><dd>{text(value)}</dd>" for label, value in rows if value]
    return f"<dl>{''.join(shown)}</dl>"


class _Tree:
    """Walks the items, writing HTML; stops at its limits."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.left = MAX_ITEMS

    def items(self, parent: Dataset, depth: int) -> None:
        for item in parent.get("ContentSequence") or ():
            self.left -= 1
            if self.left <= 0:
                return
            if depth > MAX_DEPTH:
                self.out.append('<p class="note">…</p>')
                return
            self._item(item, depth)

    def _item(self, item: Dataset, depth: int) -> None:
        concept = meaning(item.get("ConceptNameCodeSequence"))
        kind = str(item.get("ValueType") or "")
        if kind == "CONTAINER":
            level = min(_HEADING, depth + 1)
            self.out.append("<section>")
            if concept:
                self.out.append(f"<h{level}>{text(concept)}</h{level}>")
            self.items(item, depth + 1)
            self.out.append("</section>")
            return
        value = value_of(item, kind)
        if concept or value:
            label = text(concept) if concept else ""
            self.out.append(f"<dl><dt>{label}</dt><dd>{value}</dd></dl>")
        if item.get("ContentSequence"):
            self.out.append("<section>")
            self.items(item, depth + 1)
            self.out.append("</section>")


def value_of(item: Dataset, kind: str) -> str:
    """Return the value of a content item as HTML."""
    match kind:
        case "TEXT":
            return text(item.get("TextValue") or "")
        case "CODE":
            return text(meaning(item.get("ConceptCodeSequence")))
        case "NUM":
            return _number(item)
        case "PNAME":
            return text(str(item.get("PersonName") or "").replace("^", " "))
        case "DATE":
            return text(day(item.get("Date")))
        case "TIME":
            return text(clock(item.get("Time")))
        case "DATETIME":
            moment = str(item.get("DateTime") or "")
            return text(f"{day(moment[:8])} {clock(moment[8:14])}".strip())
        case "UIDREF":
            return f'<span class="uid">{text(item.get("UID") or "")}</span>'
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            return _reference(item)
        case "SCOORD" | "SCOORD3D" | "TCOORD":
            drawn = str(item.get("GraphicType") or item.get("TemporalRangeType") or kind)
            return text(drawn.lower())
        case "":
            place = item.get("ReferencedContentItemIdentifier")
            return text("→ " + ".".join(str(each) for each in place)) if place else ""
        case _:
            return text(kind.lower())


def _number(item: Dataset) -> str:
    measured = item.get("MeasuredValueSequence")
    if not measured:
        reason = meaning(item.get("NumericValueQualifierCodeSequence"))
        return text(reason or "–")
    value = measured[0]
    units = value.get("MeasurementUnitsCodeSequence")
    unit = str(units[0].get("CodeValue") or "") if units else ""
    if unit in ("1", "{no units}"):
        unit = ""
    number = value.get("NumericValue")
    return text(f"{number} {unit}".strip())


def _reference(item: Dataset) -> str:
    shown = []
    for each in (item.get("ReferencedSOPSequence") or ())[:100]:
        uid = str(each.get("ReferencedSOPInstanceUID") or "")
        frames = each.get("ReferencedFrameNumber")
        more = f" [{frames}]" if frames else ""
        # the pages make a link of it; nothing here leads anywhere by itself
        shown.append(
            f'<span class="uid" data-sop-instance-uid="{text(uid)}">{text(uid + more)}</span>'
        )
    return " ".join(shown)


def meaning(sequence: Any) -> str:
    """Return what a coded entry means in words."""
    if not sequence:
        return ""
    entry = sequence[0]
    return str(entry.get("CodeMeaning") or entry.get("CodeValue") or "")


def day(value: object) -> str:
    """Return a DICOM date as ISO 8601 writes it."""
    shown = str(value or "")
    if len(shown) >= 8 and shown[:8].isdigit():
        return f"{shown[:4]}-{shown[4:6]}-{shown[6:8]}"
    return shown


def clock(value: object) -> str:
    """Return a DICOM time as hours and minutes, and seconds when they are there."""
    shown = str(value or "").partition(".")[0]
    return ":".join(shown[at : at + 2] for at in range(0, len(shown), 2)) if shown else ""
