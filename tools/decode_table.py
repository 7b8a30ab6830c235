# SPDX-License-Identifier: Apache-2.0
"""Our decoding and drawing beside DCMTK's and GDCM's, on a folder of real files.

    python tools/decode_table.py DATA [--out docs/decode-table.md] [--json FILE]

DATA holds a MANIFEST.tsv (path, modality, transfer_syntax, bits, photometric …). Of each file the
first, the middle and the last frame are compared: the decoded values with `dcmdjpeg`, `dcmdjpls`,
`dcmdrle` or `dcmconv`, with `gdcmconv --raw` and with pydicom; the picture with `dcm2pnm` in the
same window. Folders named malformed-* are only run under limits, by the tests.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess  # noqa: TID251 - a tool of the checkout, not the product
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from decode_reasons import why
from PIL import Image
from pydicom.pixels import pixel_array

from scrigno.imaging.decode import PixelSource, open_object
from scrigno.imaging.errors import ImagingError, NoPixels, NotDicom
from scrigno.imaging.render import picture
from scrigno.imaging.results import Look

TIMEOUT_S = 60
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2",
          "1.2.840.10008.1.2.1.99"}  # fmt: skip
LOSSY_JPEG = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55)}
LOSSY_WAVELET = {"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"}
NEAR_LOSSLESS = {"1.2.840.10008.1.2.4.81"}
NAMES = {
    "1.2.840.10008.1.2": "Implicit LE", "1.2.840.10008.1.2.1": "Explicit LE",
    "1.2.840.10008.1.2.2": "Explicit BE", "1.2.840.10008.1.2.1.99": "Deflated",
    "1.2.840.10008.1.2.5": "RLE", "1.2.840.10008.1.2.8.1": "Deflated frames",
    "1.2.840.10008.1.2.4.50": "JPEG baseline", "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.53": "JPEG spectral", "1.2.840.10008.1.2.4.55": "JPEG progressive",
    "1.2.840.10008.1.2.4.57": "JPEG lossless", "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless", "1.2.840.10008.1.2.4.81": "JPEG-LS near",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless", "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless", "1.2.840.10008.1.2.4.202": "HTJ2K RPCL",
    "1.2.840.10008.1.2.4.203": "HTJ2K", "1.2.840.10008.1.2.4.110": "JPEG XL lossless",
    "1.2.840.10008.1.2.4.100": "MPEG-2", "1.2.840.10008.1.2.4.102": "H.264",
    "1.2.840.10008.1.2.4.107": "HEVC",
}  # fmt: skip


@dataclass
class Compared:
    """One file beside its references; a reference is a difference, or why there is none."""

    path: str
    modality: str
    syntax: str
    photometric: str
    bits: str
    ours: str = "ok"
    references: dict[str, int | str] = field(default_factory=dict)
    reason: str = ""


def run(*arguments: str) -> str:
    """Run a tool; return an empty text, or what it complained of."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=TIMEOUT_S, env=environment,
                              check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return "timeout"
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return "" if done.returncode == 0 else (said.splitlines() or ["failed"])[0][:120]


def by_dcmtk(path: Path, out: Path, syntax: str) -> str:
    """Decompress with DCMTK; lossless and lossy JPEG, JPEG-LS, RLE, native encodings."""
    number = syntax.rpartition(".")[2]
    if syntax in NATIVE:
        return run("dcmconv", "+te", str(path), str(out))
    if syntax in LOSSY_JPEG or number in ("57", "70"):
        return run("dcmdjpeg", "+te", "+px", str(path), str(out))
    if number in ("80", "81"):
        return run("dcmdjpls", "+te", "+px", str(path), str(out))
    if syntax == "1.2.840.10008.1.2.5":
        return run("dcmdrle", "+te", str(path), str(out))
    return "no decoder"


def opened(path: Path) -> PixelSource:
    """Return our own view of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        stream, head = open_object(fd)
    finally:
        os.close(fd)
    return PixelSource(stream, head)


def frames_of(source: PixelSource) -> list[int]:
    return sorted({0, source.frames // 2, source.frames - 1})


def values(source: PixelSource, index: int, *, rgb: bool) -> Any:
    frame = source.frame(index, raw=not rgb)
    return frame.array.astype(np.int64) if frame.array.dtype.kind != "f" else frame.array


def difference(ours: Any, theirs: Any) -> int | str:
    """Return the largest difference of any sample."""
    if ours.shape != theirs.shape:
        return f"shape {theirs.shape}"
    if ours.dtype.kind == "f" or theirs.dtype.kind == "f":
        same = np.array_equal(ours.astype(np.float64), theirs.astype(np.float64), equal_nan=True)
        return 0 if same else 1
    return int(np.abs(ours - theirs).max(initial=0))


def beside_file(source: PixelSource, path: Path) -> int | str:
    """Return how far our frames are from those of a decompressed copy."""
    try:
        other = opened(path)
    except ImagingError as error:
        return error.reason[:100]
    worst = 0
    for index in frames_of(source):
        try:
            theirs = other.frame(index, raw=True)
        except ImagingError as error:
            return error.reason[:100]
        rgb = theirs.photometric == "RGB"
        found = difference(values(source, index, rgb=rgb), theirs.array.astype(np.int64)
                           if theirs.array.dtype.kind != "f" else theirs.array)  # fmt: skip
        if isinstance(found, str):
            return found
        worst = max(worst, found)
    return worst


def beside_pydicom(source: PixelSource, path: Path) -> int | str:
    worst = 0
    for index in frames_of(source):
        try:
            theirs = pixel_array(path, index=index, raw=True)
        except Exception as error:  # noqa: BLE001 - whatever its plug-ins raise
            return (str(error).splitlines() or ["failed"])[-1].strip()[:100]
        theirs = np.asarray(theirs)
        if theirs.dtype.kind != "f":
            theirs = theirs.astype(np.int64)
        found = difference(values(source, index, rgb=False), theirs)
        if isinstance(found, str):
            return found
        worst = max(worst, found)
    return worst


def beside_dcm2pnm(source: PixelSource, path: Path, out: Path) -> int | str:
    """Return how many of 256 grey levels our picture of the middle frame differs."""
    index = source.frames // 2
    made = picture(source, Look(frame=index, shutter=False))
    arguments = ["dcm2pnm", "+F", str(index + 1), "-S", "-a"]
    if made.window is not None and made.pixels.ndim == 2:
        center, width = made.window.center, made.window.width
        if made.window.function == "SIGMOID":
            arguments.append("+Wfs")
        elif made.window.function == "LINEAR_EXACT":
            center, width = center + 0.5, width + 1  # the same line in the words of LINEAR
        arguments += ["+Ww", f"{center:.10f}", f"{width:.10f}"]
    said = run(*arguments, str(path), str(out))
    if said:
        return said
    theirs = np.asarray(Image.open(out)).astype(np.int64)
    ours = made.pixels.astype(np.int64)
    if theirs.ndim == 2 and ours.ndim == 3:
        theirs = np.repeat(theirs[:, :, None], 3, axis=2)
    if theirs.ndim == 3 and ours.ndim == 2:
        ours = np.repeat(ours[:, :, None], 3, axis=2)
    return difference(ours, theirs)


def compare(row: dict[str, str], root: Path, scratch: Path) -> Compared | None:
    path = root / row["path"]
    if row["path"].startswith("malformed") or not path.is_file():
        return None
    try:
        source = opened(path)
    except (NotDicom, NoPixels):
        return None
    except ImagingError as error:
        return Compared(row["path"], row["modality"] or "–", row["transfer_syntax"].split(" ")[0],
                        row["photometric"], row["bits"], ours=error.reason[:120])  # fmt: skip
    syntax = str(source.transfer_syntax)
    found = Compared(
        row["path"], str(source.attributes.get("Modality") or "–"), syntax,
        str(source.attributes.PhotometricInterpretation),
        f"{source.cells.allocated}/{source.cells.stored}{'s' if source.cells.signed else 'u'}",
    )  # fmt: skip
    try:
        for index in frames_of(source):
            source.frame(index)
    except ImagingError as error:
        found.ours = error.reason[:160]
    dcmtk, gdcm, pnm = scratch / "dcmtk.dcm", scratch / "gdcm.dcm", scratch / "out.pnm"
    for each in (dcmtk, gdcm, pnm):
        each.unlink(missing_ok=True)
    failed = {"DCMTK": by_dcmtk(path, dcmtk, syntax),
              "GDCM": run("gdcmconv", "--raw", str(path), str(gdcm))}  # fmt: skip
    if found.ours != "ok":
        found.references = {name: said or "decodes" for name, said in failed.items()}
        return found
    for name, copy in (("DCMTK", dcmtk), ("GDCM", gdcm)):
        found.references[name] = failed[name] or beside_file(source, copy)
    found.references["pydicom"] = beside_pydicom(source, path)
    drawable = path if syntax in NATIVE else dcmtk if dcmtk.exists() else gdcm
    found.references["picture"] = (
        beside_dcm2pnm(source, drawable, pnm) if drawable.exists() else "nothing to draw from"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/decode-table.md"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    missing = [tool for tool in ("dcm2pnm", "dcmdjpeg", "gdcmconv") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"decode_table: not on this machine: {', '.join(missing)}")
    with (arguments.data / "MANIFEST.tsv").open(encoding="utf-8") as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    if arguments.json and arguments.json.exists():  # written before: only the page is made anew
        compared = [Compared(**each) for each in json.loads(arguments.json.read_text())]
    else:
        with tempfile.TemporaryDirectory() as scratch:
            found = [compare(row, arguments.data, Path(scratch)) for row in rows]
        compared = [each for each in found if each is not None]
    if arguments.json and not arguments.json.exists():
        arguments.json.write_text(json.dumps([vars(each) for each in compared], indent=1))
    table, unexplained = written(compared)
    arguments.out.write_text(table, encoding="utf-8")
    print(f"{arguments.out}: {len(compared)} files")  # noqa: T201 - a command's answer
    for line in unexplained:
        print("unexplained:", line)  # noqa: T201 - as above
    sys.exit(1 if unexplained else 0)


REFERENCES = ("DCMTK", "GDCM", "pydicom", "picture")


def written(compared: list[Compared]) -> tuple[str, list[str]]:
    """Return the page, and what has no reason."""
    grouped: dict[tuple[str, str, str], list[Compared]] = defaultdict(list)
    for each in compared:
        grouped[each.syntax, each.modality, each.photometric].append(each)
    notes: dict[str, int] = {}
    unexplained: list[str] = []
    lines = []
    for (syntax, modality, photometric), members in sorted(grouped.items()):
        cells = [_cell(name, members, notes, unexplained) for name in REFERENCES]
        bits = ", ".join(sorted({each.bits for each in members}))
        decoded = sum(each.ours == "ok" for each in members)
        ours = str(len(members)) if decoded == len(members) else f"{decoded} of {len(members)}"
        name = NAMES.get(syntax, syntax or "unknown")
        row = [name, modality, photometric or "–", bits or "–", ours, *cells]
        lines.append(f"| {' | '.join(row)} |")
    reasons = [f"{number}. {reason}" for reason, number in notes.items()]
    counts = {name: sum(each.references.get(name) == 0 for each in compared)
              for name in REFERENCES}  # fmt: skip
    head = _HEAD.format(files=len(compared), **counts)
    return "\n".join([head, *lines, "", "## Why", "", *reasons, ""]), unexplained


def _cell(name: str, members: list[Compared], notes: dict[str, int], unexplained: list[str]) -> str:
    """Return "equal", the largest difference, and the notes for what is neither."""
    equal = rounded = 0
    marks: list[str] = []
    for each in members:
        found = each.references.get(name, each.ours)
        if found == 0:
            equal += 1
            continue
        if name == "picture" and found == 1:
            rounded += 1
            continue
        reason = why(each.path, each.syntax, each.bits, each.photometric, name, found)
        if not reason:
            unexplained.append(f"{each.path} {name}: {found}")
            reason = "not explained"
        number = notes.setdefault(reason, len(notes) + 1)
        if f"[{number}]" not in marks:
            marks.append(f"[{number}]")
    said = []
    if equal:
        said.append(f"{equal} equal")
    if rounded:
        said.append(f"{rounded} within 1")
    return ", ".join(said + marks)


_HEAD = """# What we decode and draw, beside others

Made by `python tools/decode_table.py DATA`; it fails when a cell has no reason. {files} real files
with pixels (those of `malformed-*` run under limits, in the tests). Of each the first, the middle
and the last frame are compared.

Decoded values are equal to DCMTK's for {DCMTK} files, to GDCM's for {GDCM}, to pydicom's for
{pydicom}; of the pictures {picture} are equal to `dcm2pnm`'s in the same window. "within 1" is one
of 256 greys: `dcm2pnm` cuts where we round. Numbers in brackets are the reasons below. DCMTK 3.6.7
(`dcmconv`, `dcmdjpeg`, `dcmdjpls`, `dcmdrle`, `dcm2pnm`), GDCM 3.0.21 (`gdcmconv`), pydicom 3.0.2.

| syntax | modality | photometric | bits | files | DCMTK | GDCM | pydicom | picture |
|---|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    main()
