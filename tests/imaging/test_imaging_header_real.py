# SPDX-License-Identifier: Apache-2.0
"""Our scan beside pydicom's reading, on pydicom's own files and the real data set where it is.

Every difference that stands is in `EXPLAINED` with its reason.
"""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.multival import MultiValue

from scrigno.core.attributes import IndexAttributes
from scrigno.imaging.errors import HeaderUnreadable, NotDicom
from scrigno.imaging.header import read_index_attributes
from scrigno.imaging.part10 import FileHead, split
from scrigno.imaging.wanted import WANTED, Kind, Room, Wanted

EXPLAINED = {
    ("chrGB2312.dcm", "patient_name"): "pydicom does not know the escape sequence of GB 2312",
    ("I_000031.dcm", "patient_comments"): "only spaces and NUL are padding, a line feed is text",
    ("TC0475_meta_0001_vr_5a5a.dcm", "*"): "pydicom does not find the data set behind this meta",
    ("TC0643_meta_ALL_vr_5a5a.dcm", "*"): "pydicom does not find the data set behind this meta",
}
# what no reader can know: wrong label (refused, the archive decides), cut before the first UIDs
REFUSED = {
    "SC_rgb_jpeg.dcm",
    "TC0385_dicm_offset0.dcm",
    "TC0967_truncated_dataset_2bytes.dcm",
    "TC1141_oob_len_len_2GB.dcm",
}
FROM_FILE_META = {"sop_class_uid", "sop_instance_uid"}


def theirs(dataset: pydicom.Dataset, wanted: Wanted) -> object:
    element = dataset.get(wanted.tag)
    value = None if element is None else element.value
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    values = [] if value is None else values
    match wanted.kind:
        case Kind.NAME:
            text = "\\".join(str(part) for part in values)
            return text if text.strip("\\") else ""
        case Kind.SHORT | Kind.COUNT:
            return int(values[0]) if values and str(values[0]).isdigit() else None
        case Kind.LONG:
            return str(values[0]).rstrip(" ") if values else ""
        case _:
            parts = [getattr(part, "original_string", None) or str(part) for part in values]
            return "\\".join(part.strip() for part in parts)


def differences(path: Path, head: FileHead, attributes: IndexAttributes) -> Iterator[str]:
    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    rooms = [attributes.patient, attributes.study, attributes.series, attributes.instance]
    for wanted in WANTED.values():
        if wanted.room is Room.NONE or (path.name, wanted.name) in EXPLAINED:
            continue
        ours = getattr(rooms[wanted.room], wanted.name)
        ours = ours.text() if wanted.kind is Kind.NAME else ours
        other = theirs(dataset, wanted)
        if ours != other and not (
            wanted.name in FROM_FILE_META and other == "" and ours == getattr(head, wanted.name)
        ):
            yield f"{path.name}: {wanted.name} {ours!a} is not {other!a}"


def compare(paths: list[Path]) -> int:
    read, found = 0, []
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            if (path.name, "*") in EXPLAINED:
                continue
            content = path.read_bytes()
            try:
                head = split(content[: 64 << 10])
                data = content[head.data_offset :]
                attributes = read_index_attributes(
                    data[: 256 << 10],
                    transfer_syntax_uid=head.transfer_syntax_uid,
                    sop_class_uid=head.sop_class_uid,
                    sop_instance_uid=head.sop_instance_uid,
                    size=len(data),
                )
            except NotDicom:
                continue
            except HeaderUnreadable as refused:
                if path.name not in REFUSED:
                    found.append(f"{path.name}: {refused.reason}")
                continue
            read += 1
            found += differences(path, head, attributes)
    logging.disable(logging.NOTSET)
    assert found == []
    return read


@pytest.mark.spec("DN-4", "DN-12")
def test_pydicoms_own_files_read_as_pydicom_reads_them() -> None:
    # not by get_testdata_files, which fetches what the package leaves out from the network
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    assert compare(sorted(folder.rglob("*.dcm"))) > 60


@pytest.mark.spec("DN-4", "DN-12")
def test_the_real_data_set_reads_as_pydicom_reads_it(real_data: Path | None) -> None:
    if real_data is None:
        pytest.skip("the real data set is not on this machine")
    files = [path for path in sorted(real_data.rglob("*")) if path.is_file()]
    assert compare([path for path in files if path.name != "MANIFEST.tsv"]) > 600
