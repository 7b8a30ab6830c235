# SPDX-License-Identifier: Apache-2.0
"""Time to read the index attributes of one header: our scanner beside pydicom, on real files.

Usage: python bench/header_scan.py [FILE…]; without files, CT_small.dcm of pydicom and what the
data folder beside the repository offers.
"""

import statistics
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from scrigno.imaging.header import read_index_attributes
from scrigno.imaging.part10 import file_prefix, split
from scrigno.imaging.wanted import WANTED

HEAD_BYTES = 256 << 10
ROUNDS = 400
DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SAMPLES = (
    "series-ct-head-5mm/*.dcm",
    "cornerstone/BigEndian*.dcm",
    "cornerstone/Deflated*.dcm",
    "series-mr-t1-067mm/*.dcm",
    "dcm_qa_enh/*.dcm",
    "pydicom/charset_files/chrH31.dcm",
)


def microseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def bench(path: Path) -> None:
    """Print one line for one file."""
    content = path.read_bytes()
    head = split(content[: 64 << 10])
    data = content[head.data_offset :][:HEAD_BYTES]

    def ours() -> object:
        return read_index_attributes(
            data,
            transfer_syntax_uid=head.transfer_syntax_uid,
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
        )

    def theirs() -> object:
        dataset = pydicom.dcmread(BytesIO(content), stop_before_pixels=True, force=True)
        return [dataset.get(tag) for tag in WANTED]

    mine = microseconds(ours, ROUNDS)
    other = microseconds(theirs, ROUNDS // 10)
    print(f"{mine:9.1f} µs  pydicom {other:9.1f} µs  {other / mine:5.1f} ×  {path.name}")


def main() -> None:
    """Bench the files named or the samples."""
    paths = [Path(name) for name in sys.argv[1:]]
    if not paths:
        paths = [Path(str(get_testdata_file("CT_small.dcm")))]
        paths += [path for pattern in SAMPLES for path in sorted(DATA.glob(pattern))[:1]]
    for path in paths:
        bench(path)
    uids = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2",
    }
    prefix = microseconds(lambda: file_prefix(sop_instance_uid="1.2.3.4.5", **uids), ROUNDS)
    print(f"{prefix:9.1f} µs  file_prefix")


if __name__ == "__main__":
    main()
