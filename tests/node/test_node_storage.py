# SPDX-License-Identifier: Apache-2.0
"""C-STORE: what is kept, and the status of each way not to keep it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from made_objects import ct_series
from running_node import RunningNode, data_set_bytes, encoded
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.service import Response
from scrigno.settings.schema import IngestSettings, LimitSettings, UnknownSopClasses

Opener = Callable[..., Awaitable[RunningNode]]
Caller = Callable[..., Awaitable[Association]]

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PRIVATE_CLASS = "1.2.276.0.99999.7.1"
UNHEARD_OF_SYNTAXES = (
    "1.2.276.0.99999.1.2.3",
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.999",
    "1.2.840.113619.5.2",
)
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def image(**values: Any) -> Dataset:
    ((_, made),) = ct_series(images=1, size=16)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


async def pieces(content: bytes, size: int = 60_001) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def store(
    association: Association,
    content: bytes,
    *,
    sop_instance_uid: str,
    sop_class_uid: str = CT,
    syntax: str = EXPLICIT,
    context: int | None = None,
) -> Response:
    context = context or association.context_for(sop_class_uid, (syntax,))
    assert context is not None
    return await association.store(
        context_id=context,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        chunks=pieces(content),
    )


@pytest.mark.spec("DN-4")
async def test_unheard_of_syntaxes_and_private_classes_are_stored_byte_for_byte(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    contexts = [(CT, (syntax,)) for syntax in UNHEARD_OF_SYNTAXES]
    association = await call(box, contexts=[*contexts, (PRIVATE_CLASS, (EXPLICIT,))])
    for syntax in UNHEARD_OF_SYNTAXES:
        made = image()
        content = encoded(made, EXPLICIT)
        answer = await store(
            association, content, sop_instance_uid=made.SOPInstanceUID, syntax=syntax
        )
        assert answer.status == 0
        assert data_set_bytes(box.stored_file(made.SOPInstanceUID)) == content
        found = await box.catalogue.instance(made.SOPInstanceUID)
        assert found is not None
        assert found.transfer_syntax_uid == syntax
    made = image(SOPClassUID=PRIVATE_CLASS)
    answer = await store(
        association,
        encoded(made, EXPLICIT),
        sop_instance_uid=made.SOPInstanceUID,
        sop_class_uid=PRIVATE_CLASS,
    )
    assert answer.status == 0


@pytest.mark.spec("DN-4")
async def test_a_class_refused_by_policy_gets_0122_and_the_others_go_on(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    refuse = IngestSettings(
        ack_copies=1,
        count_shared_device=True,
        unknown_sop_classes=UnknownSopClasses.REJECT,
    )
    await box.change(ingest=refuse)
    association = await call(
        box, contexts=[(PRIVATE_CLASS, (EXPLICIT,)), (CT, (EXPLICIT,)), (STUDY_FIND, (EXPLICIT,))]
    )
    made = image(SOPClassUID=PRIVATE_CLASS)
    answer = await store(
        association,
        encoded(made, EXPLICIT),
        sop_instance_uid=made.SOPInstanceUID,
        sop_class_uid=PRIVATE_CLASS,
    )
    assert (answer.status, answer.comment) == (0x0122, "This SOP class is not stored here.")
    made = image()
    content = encoded(made, EXPLICIT)
    assert (await store(association, content, sop_instance_uid=made.SOPInstanceUID)).status == 0
    answer = await store(
        association,
        content,
        sop_instance_uid=made.SOPInstanceUID,
        sop_class_uid=STUDY_FIND,
        context=association.context_for(STUDY_FIND),
    )
    assert answer.status == 0x0122
    assert (await box.catalogue.totals()).instances == 1


@pytest.mark.spec("DN-4")
async def test_a_data_set_that_names_another_object_than_the_command_gets_a900(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association = await call(box)
    answer = await store(association, encoded(image(), EXPLICIT), sop_instance_uid=generate_uid())
    assert answer.status == 0xA900
    assert answer.comment
    assert box.counters.value("dicom_store_refused", code="uid-mismatch", status="A900") == 1


@pytest.mark.spec("DN-4")
async def test_rubbish_with_a_good_name_is_kept_aside_and_without_one_refused(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association = await call(box)
    rubbish = bytes(range(256)) * 8
    assert (await store(association, rubbish, sop_instance_uid=generate_uid())).status == 0
    assert len(await box.inbox()) == 1
    answer = await store(association, rubbish, sop_instance_uid="../../etc/passwd")
    assert answer.status & 0xF000 == 0xC000
    assert answer.comment
    assert len(await box.inbox()) == 1


@pytest.mark.spec("AD-8")
async def test_over_the_limit_of_studies_a_new_one_gets_a700_and_words(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(limits=LimitSettings(max_studies=1))
    association = await call(box)
    first, second = image(), image()
    content = encoded(first, EXPLICIT)
    assert (await store(association, content, sop_instance_uid=first.SOPInstanceUID)).status == 0
    answer = await store(
        association, encoded(second, EXPLICIT), sop_instance_uid=second.SOPInstanceUID
    )
    assert answer.status == 0xA700
    assert "studies" in answer.comment
    another = image(
        StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID
    )
    answer = await store(
        association, encoded(another, EXPLICIT), sop_instance_uid=another.SOPInstanceUID
    )
    assert answer.status == 0


@pytest.mark.spec("DN-11")
async def test_an_object_over_the_size_limit_gets_a700_and_the_association_lives(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    await box.change(ingest=replace(box.settings.current.ingest, max_object_bytes=1 << 20))
    association = await call(box)
    made = image(PixelData=bytes(3 << 20))
    answer = await store(association, encoded(made, EXPLICIT), sop_instance_uid=made.SOPInstanceUID)
    assert answer.status == 0xA700
    assert (await association.echo()).status == 0


@pytest.mark.spec("DN-4", "DN-11")
async def test_a_large_object_flows_through_and_stands_as_sent(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association = await call(box)
    made = image(Rows=4096, Columns=4096, PixelData=bytes(range(256)) * (32 << 12))
    content = encoded(made, EXPLICIT)
    answer = await store(association, content, sop_instance_uid=made.SOPInstanceUID)
    assert answer.status == 0
    assert data_set_bytes(box.stored_file(made.SOPInstanceUID)) == content


@pytest.mark.spec("DN-11")
async def test_an_association_that_dies_in_an_object_leaves_nothing(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association = await call(box)
    made = image(PixelData=bytes(8 << 20))

    async def cut(content: bytes) -> AsyncIterator[bytes]:
        yield content[: 2 << 20]
        yield content[2 << 20 : 4 << 20]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await association.store(
            context_id=association.context_for(CT) or 0,
            sop_class_uid=CT,
            sop_instance_uid=made.SOPInstanceUID,
            chunks=cut(encoded(made, EXPLICIT)),
        )
    async with asyncio.timeout(5):
        while not box.counters.value("ingest_discarded_objects"):
            await asyncio.sleep(0.01)
    assert box.node.association_count == 0
    assert not list((box.root / "data").glob("studies/*"))
    assert (await box.catalogue.totals()).instances == 0


async def test_while_the_archive_shuts_down_the_sender_is_told_to_come_back(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association = await call(box)
    await box.ingest.close(1)
    made = image()
    answer = await store(association, encoded(made, EXPLICIT), sop_instance_uid=made.SOPInstanceUID)
    assert answer.status == 0xA700


async def test_no_patient_text_is_ever_logged(
    open_box: Opener, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    box = await open_box(limits=LimitSettings(max_studies=1))
    association = await call(box)
    for sop_uid in (None, None, generate_uid()):
        made = image()
        await store(
            association,
            encoded(made, EXPLICIT),
            sop_instance_uid=sop_uid or made.SOPInstanceUID,
        )
    query = encoded(_query("STUDY", PatientName="Rossi*", PatientID="IT-001"), EXPLICIT)
    context = association.context_for(STUDY_FIND)
    assert context is not None
    assert [each.status async for each, _ in association.find(context, query)]
    wrong = encoded(_query("SERIES", PatientName="Rossi*"), EXPLICIT)
    assert [each.status async for each, _ in association.find(context, wrong)] == [0xA900]
    for text in ("Rossi", "IT-001", "19640312"):
        assert text not in caplog.text


def _query(level: str, **keys: str) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.spec("DN-4")
async def test_a_node_that_stops_ends_images_on_their_way_and_refuses_the_next(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    association, other = await call(box), await call(box)
    first, third = image(), image()
    ((_, second),) = ct_series(images=1, size=1500)
    stored = await store(
        association, encoded(first, EXPLICIT), sop_instance_uid=first.SOPInstanceUID
    )
    assert stored.status == 0
    half = asyncio.Event()
    content = encoded(second, EXPLICIT)

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:1_000_000]
        yield content[1_000_000:3_000_000]
        half.set()
        await asyncio.sleep(0.5)
        yield content[3_000_000:]

    context = other.context_for(CT, (EXPLICIT,))
    assert context is not None
    under_way = asyncio.ensure_future(
        other.store(
            context_id=context,
            sop_class_uid=CT,
            sop_instance_uid=second.SOPInstanceUID,
            chunks=slowly(),
        )
    )
    await half.wait()
    await asyncio.sleep(0.2)
    closing = asyncio.ensure_future(box.node.close(5))
    await asyncio.sleep(0.05)
    refused = await store(
        association, encoded(third, EXPLICIT), sop_instance_uid=third.SOPInstanceUID
    )
    assert refused.status == 0xA700
    assert (await under_way).status == 0
    await asyncio.gather(association.release(), other.release())
    await closing
    assert await box.catalogue.instance(second.SOPInstanceUID) is not None
    assert await box.catalogue.instance(third.SOPInstanceUID) is None
