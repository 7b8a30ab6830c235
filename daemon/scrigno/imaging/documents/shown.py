# SPDX-License-Identifier: Apache-2.0
"""Which document an object is, and how it goes to a browser. Worker process only."""

from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from scrigno.imaging.decode import PixelSource
from scrigno.imaging.errors import NoDocument

from . import clinical, report, traces, waveform

_SR: Final = "1.2.840.10008.5.1.4.1.1.88."
_AUDIO: Final = frozenset({"1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2"})
VIDEO: Final = {
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (100, 101)), "video/mpeg"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in range(102, 109)), "video/mp4"),
}
_MODELS: Final = frozenset({"model/stl", "model/obj", "model/mtl", "application/sla"})
_STREAM_HEAD: Final = 512


@dataclass(frozen=True, slots=True)
class Shown:
    """One document: its bytes, or for a stream where they stand in the object."""

    kind: str
    content_type: str
    title: str
    content: bytes = b""
    spans: tuple[tuple[int, int], ...] = ()


def document_of(dataset: Dataset, *, language: str) -> Shown:
    """Return the document that an object without pixels is; raises NoDocument, DecodeFailed."""
    sop_class = str(dataset.get("SOPClassUID") or "")
    if "EncapsulatedDocument" in dataset:
        return _encapsulated(dataset, language=language)
    if sop_class in _AUDIO:
        return Shown("audio", "audio/wav", _title(dataset, "Sound"), waveform.as_wav(dataset))
    if dataset.get("WaveformSequence"):
        title = _title(dataset, "Waveform")
        drawing = traces.as_svg(waveform.groups_of(dataset), title=title)
        return Shown("waveform", "image/svg+xml", title, drawing)
    if sop_class.startswith(_SR) or dataset.get("ContentSequence"):
        content, title = report.as_html(dataset, language=language)
        return Shown("report", "text/html", title, content)
    raise NoDocument("The object is no document, report, waveform or video.")


def video_of(source: PixelSource) -> Shown | None:
    """Return the stream of a video object, None for other pictures."""
    content_type = VIDEO.get(str(source.transfer_syntax))
    if content_type is None or not source.encapsulated:
        return None
    spans = tuple((span.start, span.length) for span in source.fragments())
    source.stream.seek(spans[0][0])
    found = sniffed(source.stream.read(_STREAM_HEAD)) or content_type
    return Shown("video", found, _title(source.attributes, "Video"), spans=spans)


def sniffed(head: bytes) -> str:
    """Return what a video stream is by its first bytes, empty when they tell nothing."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return "video/mp2t"
    if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return "video/mpeg"
    if head[:4] == b"\0\0\0\1" or head[:3] == b"\0\0\1":
        return "video/h26x"  # a bare stream that no browser plays
    return ""


def _title(dataset: Dataset, otherwise: str) -> str:
    for keyword in ("DocumentTitle", "SeriesDescription", "ContentDescription"):
        if dataset.get(keyword):
            return str(dataset.get(keyword))[:200]
    return otherwise


def _encapsulated(dataset: Dataset, *, language: str) -> Shown:
    content = dataset.EncapsulatedDocument
    content = content if isinstance(content, bytes) else b""
    length = dataset.get("EncapsulatedDocumentLength")
    if isinstance(length, int) and 0 < length <= len(content):
        content = content[:length]
    named = str(dataset.get("MIMETypeOfEncapsulatedDocument") or "").strip().casefold()
    title = _title(dataset, "Document")
    if b"%PDF-" in content[:1024]:
        return Shown("pdf", "application/pdf", title, content)
    if named in ("text/xml", "application/xml", "application/hl7-cda+xml"):
        drawn, found = clinical.as_html(content, language=language)
        return Shown("cda", "text/html", found, drawn)
    if named in _MODELS:
        return Shown("model", "model/stl" if named == "application/sla" else named, title, content)
    if named == "text/plain":
        return Shown("text", "text/plain", title, content)
    # whatever else it is: kept, and never run by a browser
    return Shown("file", "application/octet-stream", title, content)
