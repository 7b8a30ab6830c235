# SPDX-License-Identifier: Apache-2.0
"""Every readable real file is sent, stored and fetched back byte for byte (env SCRIGNO_TEST_DATA,
or the folder `shared/data` beside the repository); without one, the files that pydicom ships.
"""

import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from running_node import AE_TITLE, RunningNode, data_set_bytes, encoded
from scrigno.core.uids import is_uid
from scrigno.dicomnet import dimse
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.service import CloseReason, Command, Operation, Response
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import FileHead, split

Opener = Callable[..., Awaitable[RunningNode]]

STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
EXPLICIT = "1.2.840.10008.1.2.1"
MOST_CONTEXTS = 120


class Collector:
    """Takes the images of a C-GET; a handler of dicomnet."""

    def __init__(self) -> None:
        self.received: dict[str, tuple[str, bytes]] = {}

    def store_sink(
        self, command: Command, transfer_syntax: str, resume: Callable[[], None]
    ) -> "Collected":
        return Collected(self, command.sop_instance_uid, transfer_syntax)

    async def serve(self, operation: Operation) -> None:
        raise AssertionError

    def closed(self, reason: CloseReason) -> None:
        pass


class Collected:
    def __init__(self, collector: Collector, uid: str, transfer_syntax: str) -> None:
        self._collector = collector
        self._uid = uid
        self._transfer_syntax = transfer_syntax
        self._content = bytearray()

    def write(self, fragment: memoryview) -> bool:
        self._content += fragment
        return True

    async def finish(self) -> Response:
        self._collector.received[self._uid] = (self._transfer_syntax, bytes(self._content))
        return Response(0)

    def discard(self, reason: str) -> None:
        raise AssertionError(reason)


def readable_files(folder: Path) -> list[tuple[Path, FileHead]]:
    """Return the files that can be sent: their SOP UIDs are known and valid."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            try:
                head = named_as_its_data_set(path, split(file.read(8192)))
            except NotDicom:
                continue
        media_directory = head.sop_class_uid == "1.2.840.10008.1.3.10"
        if is_uid(head.sop_instance_uid) and is_uid(head.sop_class_uid) and not media_directory:
            found.append((path, head))
    return found


def named_as_its_data_set(path: Path, head: FileHead) -> FileHead:
    """Return the UIDs that a sender takes: those of the data set, not of the file meta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            inside = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=True)
            uids = str(inside.SOPClassUID).strip(), str(inside.SOPInstanceUID).strip()
        except Exception:  # whatever pydicom says to a broken file: its file meta must do
            return head
    return replace(head, sop_class_uid=uids[0], sop_instance_uid=uids[1])


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def associate(box: RunningNode, pairs: set[tuple[str, str]], **more: object) -> Association:
    return await connect(
        host="127.0.0.1",
        port=box.port,
        called_ae=AE_TITLE,
        calling_ae="TESTER",
        contexts=[
            *((sop_class, (syntax,)) for sop_class, syntax in sorted(pairs)),
            (STUDY_GET, (EXPLICIT,)),
        ],
        **more,  # type: ignore[arg-type]
    )


def in_portions(
    files: list[tuple[Path, FileHead]],
) -> list[tuple[set[tuple[str, str]], list[tuple[Path, FileHead]]]]:
    portions: list[tuple[set[tuple[str, str]], list[tuple[Path, FileHead]]]] = [(set(), [])]
    for path, head in files:
        pair = (head.sop_class_uid, head.transfer_syntax_uid)
        if len(portions[-1][0] | {pair}) > MOST_CONTEXTS:
            portions.append((set(), []))
        portions[-1][0].add(pair)
        portions[-1][1].append((path, head))
    return portions


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.spec("DN-4", "DN-6")
async def test_every_readable_file_comes_back_as_it_was_sent(
    open_box: Opener, real_data: Path | None
) -> None:
    folder = real_data or Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
    files = readable_files(folder)
    box = await open_box()
    # Files that share a UID and differ exist; the first readable one is archived.
    sent: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    refused = []
    for pairs, portion in in_portions(files):
        association = await associate(box, pairs)
        for path, head in portion:
            content = path.read_bytes()[head.data_offset :]
            context = association.context_for(head.sop_class_uid, (head.transfer_syntax_uid,))
            assert context is not None, (path, head)
            response = await association.store(
                context_id=context,
                sop_class_uid=head.sop_class_uid,
                sop_instance_uid=head.sop_instance_uid,
                chunks=one(content),
            )
            if response.status:
                refused.append((path.name, f"{response.status:04X}", response.comment))
            else:
                sent[head.sop_instance_uid].append((head.transfer_syntax_uid, content))
        await association.release()
    kept = await box.catalogue.totals()
    print(f"{len(files)} files, {kept}, inbox {len(await box.inbox())}, refused {refused}")
    assert len(files) > 50
    assert len(refused) <= len(files) // 50, refused

    by_study: dict[str, set[tuple[str, str]]] = defaultdict(set)
    stored: dict[str, tuple[str, bytes]] = {}
    for uid, candidates in sent.items():
        instance = await box.catalogue.instance(uid)
        if instance is None:
            continue  # kept aside
        by_study[instance.study_instance_uid].add(
            (instance.sop_class_uid, instance.transfer_syntax_uid)
        )
        archived = (instance.transfer_syntax_uid, data_set_bytes(box.stored_file(uid)))
        assert archived in candidates, uid
        stored[uid] = archived
    assert len(stored) > len(files) * 3 // 4
    received: dict[str, tuple[str, bytes]] = {}
    for study, pairs in by_study.items():
        collector = Collector()
        association = await associate(
            box,
            pairs,
            roles={sop_class: (False, True) for sop_class, _ in pairs},
            handler=collector,
        )
        asked = identifier(study)
        statuses = [
            command.status
            async for command, _ in association.request_responses(
                field=dimse.C_GET_RQ,
                context_id=association.context_for(STUDY_GET) or 0,
                sop_class_uid=STUDY_GET,
                data=asked,
                priority=0,
            )
        ]
        assert statuses[-1] == 0, (study, statuses[-1])
        received |= collector.received
        await association.release()
    assert received.keys() == stored.keys()
    wrong = [uid for uid in received if received[uid] != stored[uid]]
    assert not wrong


def identifier(study: str) -> bytes:

    made = Dataset()
    made.QueryRetrieveLevel = "STUDY"
    made.StudyInstanceUID = study
    return encoded(made, EXPLICIT)
