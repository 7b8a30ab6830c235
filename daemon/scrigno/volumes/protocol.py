# SPDX-License-Identifier: Apache-2.0
"""What the main process and a volume's worker say to each other.

Four SOCK_SEQPACKET pairs (lanes), so that a long scan never stands in front of a put. One packet
is one message. A request is `REQUEST` + body, with a descriptor by SCM_RIGHTS when it brings bytes;
an answer is `ANSWER` + body, with a memfd when it brings bytes. Several threads of the worker read
the same socket: the kernel hands each packet to one of them, which is the whole dispatcher.
The main process sends at most as many requests as the lane has threads, so a request that has been
sent is being worked on, and its silence is the disk's.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

REQUEST: Final = struct.Struct("<IB")  # request number, Op
ANSWER: Final = struct.Struct("<IB")  # request number, Kind
PUT: Final = struct.Struct("<Q32s")  # size, SHA-256; the key follows
PUT_DONE: Final = struct.Struct("<BQ32s")  # Put, free bytes, SHA-256 of what was there
MAX_MESSAGE: Final = 64 << 10
MAX_CHUNK: Final = 1 << 20  # of one read


class Lane(IntEnum):
    """The index of a lane's socket."""

    WRITE = 0
    READ = 1
    BULK = 2
    CARE = 3


# WRITE: enough that concurrent fsyncs share one journal commit; READ: a few viewers at once;
# BULK: digests and walks, two at a time so that a scrub does not starve the heads of the disk;
# CARE: identity and probes, which must not stand behind gigabytes that are being written.
LANE_THREADS: Final = {Lane.WRITE: 8, Lane.READ: 6, Lane.BULK: 2, Lane.CARE: 1}


class Op(IntEnum):
    """What is asked of a worker; the body is JSON unless said otherwise."""

    OPEN = 1  # {} -> facts about what stands at the path, see `Tree.open`
    MARK = 2  # marker document -> {}; writes the identity marker
    ARM = 3  # {uuid} -> {}; from now on writes are allowed while this uuid stands there
    CHECK = 4  # {} -> {}; is it still that volume?
    PROBE = 5  # {} -> space, and folders that vanished since the last one
    PUT = 6  # PUT + key, with a descriptor -> PUT_DONE
    PUT_BYTES = 7  # {key, reserve}, with a descriptor -> {}
    LINK = 8  # {source, target} -> PUT_DONE
    REMOVE = 9  # {key} -> {removed}
    STAT = 10  # {key} -> {size | null}
    READ = 11  # {key, offset, length} -> {size}, with a memfd
    DIGEST = 12  # {key, head, beside?} -> {digest, size, beside?}, with a memfd when head > 0
    WALK = 13  # {cursor, prefix, after} -> {entries, more}
    NOTE = 14  # {key, digest} -> {}; keeps the digest beside the file
    RENAME = 20  # {source, target} -> {moved}


LANE_OF: Final = {
    Op.OPEN: Lane.CARE,
    Op.MARK: Lane.CARE,
    Op.ARM: Lane.CARE,
    Op.CHECK: Lane.CARE,
    Op.PROBE: Lane.CARE,
    Op.STAT: Lane.READ,
    Op.READ: Lane.READ,
    Op.DIGEST: Lane.BULK,
    Op.WALK: Lane.BULK,
}  # everything else: WRITE


class Kind(IntEnum):
    """What an answer is."""

    DONE = 0
    FAILED = 1  # {kind, reason}
    ALIVE = 2  # the request is long and moves on; no body


class Put(IntEnum):
    """The outcome in PUT_DONE."""

    STORED = 0
    SAME = 1
    CONFLICT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The room on a volume; free is what an unprivileged writer may use."""

    total_bytes: int
    free_bytes: int
    total_inodes: int = 0  # 0: the file system makes them as it needs them
    free_inodes: int = 0


def pack(body: dict[str, Any]) -> bytes:
    """Encode a JSON body."""
    return json.dumps(body, separators=(",", ":")).encode()


def unpack(body: bytes | memoryview) -> dict[str, Any]:
    """Decode a JSON body."""
    document: dict[str, Any] = json.loads(bytes(body)) if body else {}
    return document
