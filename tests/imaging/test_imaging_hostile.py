# SPDX-License-Identifier: Apache-2.0
"""Bytes made to hurt: whatever is done to an object, the scanners end soon, in their own words."""

import contextlib
import random
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_objects import ct, encode, read
from pydicom.data import get_testdata_file

from scrigno.host.process import run
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.dicomdir import read_directory
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable, NotDicom
from scrigno.imaging.part10 import file_prefix, split

SYNTAXES = (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5")
MAX_SECONDS = 0.5  # a mutant is at most 256 KiB; the loop of the daemon must not be held


def scan(content: bytes) -> float:
    """Feed `content` to every scanner; return the longest time one took, raise what none may."""
    longest = 0.0
    for syntax in SYNTAXES:
        for size in (None, len(content), len(content) + 7):
            start = time.thread_time()
            try:
                attributes = read(content, syntax, size=size)
            except (HeaderIncomplete, HeaderUnreadable):
                pass
            else:
                assert str(attributes.problems).encode("utf-8") is not None
            longest = max(longest, time.thread_time() - start)
    for function in (split, read_directory):
        start = time.thread_time()
        with contextlib.suppress(NotDicom):
            function(content)
        longest = max(longest, time.thread_time() - start)
    return longest


def seeds() -> list[bytes]:
    whole = [encode(ct(PatientComments="x" * 40, Rows=4), syntax) for syntax in SYNTAXES[:3]]
    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "test-SR.dcm"):
        path = get_testdata_file(name)
        content = Path(str(path)).read_bytes()[: 16 << 10]
        whole += [content, content[split(content).data_offset :]]
    whole.append(Path(str(get_testdata_file("DICOMDIR"))).read_bytes()[: 8 << 10])
    return whole


INTERESTING = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\xfe\xff\0\xe0", b"SQ\0\0",
               b"\xfe\xff\xdd\xe0", b"\xfe\xff\x0d\xe0", b"UN\0\0\xff\xff\xff\xff",
               b"\x1b$B"]  # fmt: skip


def mutate(content: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(mutant) or 1)
        match chance.randrange(5):
            case 0:
                mutant[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                piece = chance.choice(INTERESTING)
                mutant[at : at + len(piece)] = piece
            case 2:
                del mutant[at : at + chance.randrange(1, 64)]
            case 3:
                mutant[at:at] = mutant[at : at + chance.randrange(1, 256)] * chance.randrange(1, 20)
            case _:
                del mutant[at:]
    return bytes(mutant)


@pytest.mark.spec("DN-11")
def test_mutants_of_real_objects_are_read_or_refused_in_words() -> None:
    chance = random.Random(20261122)
    originals = seeds()
    for _ in range(1500):
        mutant = mutate(chance.choice(originals), chance)
        assert scan(mutant) < MAX_SECONDS


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_in_words(content: bytes) -> None:
    scan(content)
    scan(bytes(128) + b"DICM" + content)


@pytest.mark.parametrize(
    "piece",
    [
        b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff",
        b"\xfe\xff\0\xe0\0\0\0\0",
        b"\x08\0\x05\0CS\0\0",
        b"\x10\0\x10\0PN\x06\0\x1b$B\x1b(B",
        b"\x40\0\x75\x02SQ\0\0\x08\0\0\0\xfe\xff\0\xe0\0\0\0\0",
        b"\0\0\0\0\0\0\0\0",
        b"\x04\0\x20\x12SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0",
    ],
)
def test_a_small_piece_repeated_takes_linear_time(piece: bytes) -> None:
    content = (piece * (256 * 1024 // len(piece)))[: 256 << 10]
    assert scan(content) < MAX_SECONDS
    prefix = file_prefix(sop_class_uid="1", sop_instance_uid="1", transfer_syntax_uid=EXPLICIT_LE)
    assert scan(prefix + content) < MAX_SECONDS


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_imaging_hostile import scan
worst = max((scan(p.read_bytes()[: 256 << 10]), p.name) for p in Path(sys.argv[2]).rglob("*.dcm"))
print(worst)
"""


@pytest.mark.spec("DN-11")
async def test_the_malformed_collection_is_read_or_refused_within_limits(
    real_data: Path | None,
) -> None:
    folder = (real_data / "malformed-pwnlab") if real_data else None
    if folder is None or not folder.is_dir():
        pytest.skip("the collection of malformed files is not on this machine")
    daemon = str(Path(sys.modules["scrigno"].__path__[0]).parent)
    done = await run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder)],
        timeout_s=60,
        environment={"PYTHONPATH": daemon},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
