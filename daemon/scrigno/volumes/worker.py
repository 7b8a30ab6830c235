# SPDX-License-Identifier: Apache-2.0
"""The worker process of one volume: `python -m scrigno.volumes.worker PATH`.

All I/O of the volume happens here and nowhere else. Threads wait on the lanes' sockets, do one
request at a time and answer on the same socket. When the main process closes its end, this one
leaves at once; whatever was under way had no name yet, or was whole.
"""

import os
import socket
import sys
import threading
import time
import traceback
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from scrigno.host.child import enter

from .files import Alive, Refused, refusal
from .keys import BadKeyError
from .marker import Marker
from .protocol import (
    ANSWER,
    LANE_THREADS,
    MAX_MESSAGE,
    PUT,
    PUT_DONE,
    REQUEST,
    Kind,
    Lane,
    Op,
    pack,
    unpack,
)
from .states import ErrorKind
from .tree import PutDone, Tree

ALIVE_EVERY_S: Final = 1.0
WALK_BATCH: Final = 400
WALK_BATCH_BYTES: Final = 48 << 10
OPEN_WALKS: Final = 8
_FD_BYTES: Final = 4

Answer = tuple[bytes, int | None]  # body, descriptor to hand over
Handler = Callable[[dict[str, Any], int, Alive], Answer]  # body, descriptor given or -1
Walk = Iterator[tuple[str, int]]


class Worker:
    """Turns requests into calls of the tree."""

    def __init__(self, tree: Tree) -> None:
        """Serve this tree."""
        self._tree = tree
        self._walks: OrderedDict[int, Walk] = OrderedDict()
        self._hashings: OrderedDict[int, Iterator[tuple[bytes, int]]] = OrderedDict()
        self._walks_lock = threading.Lock()  # protects _walks and _hashings
        self._handlers: dict[Op, Handler] = {
            Op.OPEN: lambda *_: (pack(tree.open()), None),
            Op.MARK: self._mark,
            Op.ARM: self._arm,
            Op.CHECK: self._check,
            Op.PROBE: self._probe,
            Op.PUT_BYTES: self._put_bytes,
            Op.LINK: self._link,
            Op.RENAME: self._rename,
            Op.REMOVE: self._remove,
            Op.STAT: lambda body, *_: (pack({"size": tree.stat(body["key"])}), None),
            Op.READ: self._read,
            Op.DIGEST: self._digest,
            Op.WALK: self._walk,
            Op.NOTE: self._note,
        }

    def serve(self, lane: socket.socket) -> None:
        """Answer requests of one lane until the main process has gone."""
        while True:
            request, ancillary, _, _ = lane.recvmsg(
                MAX_MESSAGE, socket.CMSG_SPACE(_FD_BYTES), socket.MSG_CMSG_CLOEXEC
            )
            if not request:
                os._exit(0)
            given = _descriptor(ancillary)
            number, op = REQUEST.unpack_from(request)
            kind, body, handed = Kind.DONE, b"", None
            try:
                body, handed = self._do(
                    Op(op), memoryview(request)[REQUEST.size :], given, _pulse(lane, number)
                )
            except Refused as refused:
                kind, body = Kind.FAILED, _failure(refused)
            except BadKeyError as error:
                kind, body = Kind.FAILED, _failure(Refused(ErrorKind.MISSING, str(error)))
            except OSError as error:
                kind, body = Kind.FAILED, _failure(refusal(error))
            except Exception as error:  # noqa: BLE001 - the request fails, the worker lives on
                traceback.print_exc()
                kind, body = Kind.FAILED, _failure(Refused(ErrorKind.IO, repr(error)))
            finally:
                if given >= 0:
                    os.close(given)
            _answer(lane, ANSWER.pack(number, kind) + body, handed)

    def _do(self, op: Op, body: memoryview, given: int, alive: Alive) -> Answer:
        if op is Op.PUT:  # the hot one first
            size, digest = PUT.unpack_from(body)
            key = str(body[PUT.size :], "ascii")
            return _put_done(self._tree.put(key, given, size, digest, alive)), None
        return self._handlers[op](unpack(body), given, alive)

    def _mark(self, body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        self._tree.mark(Marker.parse(body))
        return b"", None

    def _arm(self, body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        self._tree.arm(body["uuid"])
        return b"", None

    def _check(self, _body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        self._tree.check()
        return b"", None

    def _probe(self, _body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        space = self._tree.probe()
        return pack({"space": asdict(space), "vanished": self._tree.vanished()}), None

    def _put_bytes(self, body: dict[str, Any], given: int, _alive: Alive) -> Answer:
        content = os.pread(given, os.fstat(given).st_size, 0)
        self._tree.put_bytes(body["key"], content, from_reserve=body.get("reserve", False))
        return b"", None

    def _rename(self, body: dict[str, Any], _given: int, alive: Alive) -> Answer:
        return pack({"moved": self._tree.rename(body["source"], body["target"], alive)}), None

    def _remove(self, body: dict[str, Any], _given: int, alive: Alive) -> Answer:
        return pack({"removed": self._tree.remove(body["key"], alive)}), None

    def _link(self, body: dict[str, Any], _given: int, alive: Alive) -> Answer:
        return _put_done(self._tree.link(body["source"], body["target"], alive)), None

    def _read(self, body: dict[str, Any], _given: int, alive: Alive) -> Answer:
        memory, size = self._tree.read(body["key"], body["offset"], body["length"], alive)
        return pack({"size": size}), memory

    def _digest_step(self, body: dict[str, Any]) -> Answer:
        """Read some more of one object; whoever asks lets others have the disk in between."""
        cursor, key = body["cursor"], body["key"]
        with self._walks_lock:
            # unknown after a new worker, or after too many others: begin again
            steps = self._hashings.pop(cursor, None) or self._tree.digest_in_steps(
                key, body["step"]
            )
        digest, size = next(steps)
        if digest:
            next(steps, None)  # lets go of the file
            kept = self._tree.beside(key)
            beside = None if kept is None else kept.hex()
            return pack({"digest": digest.hex(), "size": size, "beside": beside}), None
        with self._walks_lock:
            self._hashings[cursor] = steps
            while len(self._hashings) > OPEN_WALKS:
                self._hashings.popitem(last=False)
        return pack({"digest": "", "size": size, "beside": None}), None

    def _digest(self, body: dict[str, Any], _given: int, alive: Alive) -> Answer:
        if "step" in body:
            return self._digest_step(body)
        digest, size, head = self._tree.digest(body["key"], body["head"], alive)
        answer: dict[str, Any] = {"digest": digest.hex(), "size": size}
        if body.get("beside"):
            kept = self._tree.beside(body["key"])
            answer["beside"] = kept.hex() if kept is not None else None
        memory: int | None = None
        if head:
            memory = os.memfd_create("scrigno-head", os.MFD_CLOEXEC)
            os.write(memory, head)
        return pack(answer), memory

    def _note(self, body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        self._tree.note(body["key"], bytes.fromhex(body["digest"]))
        return b"", None

    def _walk(self, body: dict[str, Any], _given: int, _alive: Alive) -> Answer:
        cursor: int = body["cursor"]
        with self._walks_lock:
            # unknown after a new worker, or after too many others: begin again behind `after`
            walk = self._walks.pop(cursor, None) or self._tree.walk(body["prefix"], body["after"])
        entries: list[tuple[str, int]] = []
        length = 0
        for key, size in walk:
            entries.append((key, size))
            length += len(key) + 24
            if len(entries) >= WALK_BATCH or length >= WALK_BATCH_BYTES:
                with self._walks_lock:
                    self._walks[cursor] = walk
                    while len(self._walks) > OPEN_WALKS:
                        self._walks.popitem(last=False)
                return pack({"entries": entries, "more": True}), None
        return pack({"entries": entries, "more": False}), None


def _put_done(done: PutDone) -> bytes:
    return PUT_DONE.pack(done.outcome, max(done.free_bytes, 0), done.existing)


def _failure(refused: Refused) -> bytes:
    return pack({"kind": refused.kind.value, "reason": refused.reason[:1000]})


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return array("i", content[:_FD_BYTES])[0]
    return -1


def _pulse(lane: socket.socket, number: int) -> Alive:
    """Return a call that says at most once a second that this request moves on."""
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= ALIVE_EVERY_S:
            last = now
            lane.send(ANSWER.pack(number, Kind.ALIVE))

    return alive


def _answer(lane: socket.socket, message: bytes, handed: int | None) -> None:
    try:
        if handed is None:
            lane.send(message)
        else:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [handed]))
            lane.sendmsg([message], [rights])
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    finally:
        if handed is not None:
            os.close(handed)


def main() -> None:
    """Serve until the main process closes its end or dies."""
    lanes = enter()
    worker = Worker(Tree(Path(sys.argv[1])))
    threads = [
        threading.Thread(target=worker.serve, args=(lanes[lane],), daemon=True)
        for lane in Lane
        for _ in range(LANE_THREADS[lane])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
