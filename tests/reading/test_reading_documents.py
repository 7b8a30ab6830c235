# SPDX-License-Identifier: Apache-2.0
"""Documents: nothing is overwritten unseen, nothing that was saved is lost, whichever disk dies."""

import asyncio
import json
import shutil
from datetime import timedelta

import pytest
from readingbox import ReadingBox

from scrigno.core.events import ReadingChanged, ReadingConflict, StudyPurged
from scrigno.reading import documents
from scrigno.reading.documents import MOST_BYTES, Kind, Scope
from scrigno.reading.errors import (
    BadDocument,
    RevisionConflict,
    RevisionNeeded,
    TooMany,
    UnknownVersion,
)
from scrigno.reading.reading import of_account, of_box, of_study

STUDY = "1.2.840.1"
NOTE = of_study(STUDY, Kind.NOTE)


def layer(name: str, study: str = STUDY):
    return of_study(study, Kind.ANNOTATIONS, name)


async def note(box: ReadingBox, text: str, expected: int | None, author: str = "anna", **more):
    return await box.reading.save(NOTE, {"text": text}, author=author, expected=expected, **more)


@pytest.mark.spec("VW-2", "VW-5")
async def test_a_save_that_is_answered_stands_on_the_system_disk_and_on_a_volume(
    box: ReadingBox,
) -> None:
    stored = await note(box, "liver: 日本", 0)
    assert stored.safe
    assert set(stored.held_by) <= {"data", "backup1"}
    held = [each for name in stored.held_by for each in box.files(name)]
    assert held
    assert "日本" in held[0].read_text(encoding="utf-8")
    await box.paid()
    assert [len(box.files(name)) for name in box.names] == [1, 1]
    found = await box.reading.documents.get(NOTE)
    assert found is not None
    assert (found.content, found.revision, found.author) == ({"text": "liver: 日本"}, 1, "anna")
    assert ReadingChanged(study_uid=STUDY, kind="note", layer="", revision=1) in box.events


@pytest.mark.spec("VW-5")
async def test_two_readers_who_save_the_same_are_both_told_and_nothing_is_overwritten(
    box: ReadingBox,
) -> None:
    await note(box, "first", 0)
    await note(box, "anna's", 1, "anna")
    with pytest.raises(RevisionConflict) as conflict:
        await note(box, "bruno's", 1, "bruno")
    assert conflict.value.current["text"] == "anna's"
    assert conflict.value.current["author"] == "anna"
    assert conflict.value.revision == 2
    assert box.events[-1] == ReadingConflict(study_uid=STUDY, kind="note", layer="", revision=2)
    await note(box, "both", 2, "bruno")
    with pytest.raises(RevisionNeeded):
        await note(box, "blind", None)
    with pytest.raises(RevisionConflict):
        await note(box, "as if there were none", 0)
    found = await box.reading.documents.get(NOTE)
    assert found is not None
    assert found.content == {"text": "both"}


@pytest.mark.spec("VW-5")
async def test_of_many_saves_at_once_exactly_one_wins(box: ReadingBox) -> None:
    done = await asyncio.gather(
        *(note(box, f"text {number}", 0, f"user {number}") for number in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, RevisionConflict) for each in done) == 7
    assert len(await box.reading.documents.history(NOTE, 2**53, 10)) == 1


@pytest.mark.spec("VW-5")
async def test_each_author_has_a_layer_of_his_own(box: ReadingBox) -> None:
    for author in ("anna", "Bruno", "世界"):
        await box.reading.save(layer(author), {"annotations": []}, author=author, expected=0)
    found = await box.reading.documents.of_subject(Scope.STUDY, STUDY, Kind.ANNOTATIONS)
    assert {each.place.owner for each in found} == {"anna", "Bruno", "世界"}
    same = await box.reading.documents.get(layer("BRUNO"))
    assert same is not None
    assert same.place.owner == "Bruno"


@pytest.mark.spec("VW-5")
async def test_history_keeps_what_was_taken_away_and_brings_it_back(
    box: ReadingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = layer("anna")

    async def save(count: int, expected: int, author: str = "anna"):
        content = {"annotations": [{"id": str(number)} for number in range(count)]}
        return await box.reading.save(place, content, author=author, expected=expected)

    await save(1, 0)
    await save(2, 1)
    await save(3, 2)  # growing within two minutes: one version
    last = await save(0, 3)  # all gone: the three are kept
    assert (last.saved.version.number, last.saved.version.revision) == (2, 4)
    await save(1, 4, "bruno")
    history = await box.reading.documents.history(place, 2**53, 10)
    assert [(each.number, each.author, len(each.content["annotations"])) for each in history] == [
        (3, "bruno", 1),
        (2, "anna", 0),
        (1, "anna", 3),
    ]
    back = await box.reading.restore(place, 1, author="anna", expected=5)
    assert len(back.saved.version.content["annotations"]) == 3
    assert back.saved.version.number == 4
    with pytest.raises(UnknownVersion):
        await box.reading.restore(place, 99, author="anna", expected=6)
    monkeypatch.setattr(documents, "TOGETHER", timedelta(0))
    await save(4, 6)
    assert (await save(5, 7)).saved.version.number == 6
    unchanged = await save(5, 8)
    assert not unchanged.saved.changed
    assert unchanged.saved.version.revision == 8
    await box.paid()
    assert len(box.files("data")) == 6


@pytest.mark.spec("VW-5", "ST-8")
async def test_the_death_of_the_system_disk_loses_no_document(box: ReadingBox) -> None:
    await note(box, "first", 0)
    await note(box, "x", 1)  # shorter: a version of its own
    await box.reading.save(layer("anna"), {"annotations": [1]}, author="anna", expected=0)
    mine = of_account("anna", Kind.PREFERENCE, "list")
    await box.reading.save(mine, {"sort": "patient_name"}, author="anna", expected=0)
    everybody = of_box(Kind.HANGING, "CT/CHEST")
    await box.reading.save(everybody, {"layout": {}}, author="anna", expected=0)
    await box.paid()
    await box.stop()
    shutil.rmtree(box.root / "backup1")  # and one of the volumes with it
    shutil.rmtree(box.root / "state")
    await box.start()
    await box.volumes.adopt("data", force=True)  # a new system disk does not know its volumes
    async with asyncio.timeout(10):
        while await box.reading.documents.get(everybody) is None:
            await asyncio.sleep(0.05)
    await box.paid()
    history = await box.reading.documents.history(NOTE, 2**53, 10)
    assert [each.content["text"] for each in history] == ["x", "first"]
    assert history[0].revision == 2
    for place, content in ((layer("anna"), {"annotations": [1]}), (mine, {"sort": "patient_name"})):
        found = await box.reading.documents.get(place)
        assert found is not None
        assert found.content == content
    await note(box, "goes on", 2)
    await box.paid()
    assert len(box.files("backup1")) == 5


@pytest.mark.spec("VW-5", "ST-3")
async def test_without_any_volume_a_save_is_kept_and_not_called_safe(box: ReadingBox) -> None:
    await box.volumes.pause("backup1", "test")
    stored = await note(box, "one volume left", 0)
    assert stored.held_by == ("data",)
    box.volumes.by_name("data").paused = True  # no volume may be written now
    unsafe = await note(box, "none left, longer", 1)
    assert not unsafe.safe
    found = await box.reading.documents.get(NOTE)
    assert found is not None
    assert found.content["text"] == "none left, longer"
    box.volumes.by_name("data").paused = False
    again = await note(box, "none left, longer", 2)  # the page asks once more
    box.reading.files.nudge()
    async with asyncio.timeout(20):
        while (await box.reading.files.owed()).get("data"):
            await asyncio.sleep(0.05)
    assert not again.saved.changed
    (file,) = box.files("data")
    assert "none left" in file.read_text()
    assert (await note(box, "none left, longer", 2)).held_by == ("data",)


@pytest.mark.spec("VW-5")
async def test_a_damaged_file_is_passed_over_and_a_foreign_one_too(box: ReadingBox) -> None:
    other = of_study("9.9", Kind.NOTE)
    await box.reading.save(other, {"text": "moved by hand"}, author="anna", expected=0)
    await box.paid()
    for name in box.names:
        (moved,) = box.files(name)
        moved.rename(moved.with_name("000002.json"))
    await note(box, "good", 0)
    await box.paid()
    path = next(each for each in box.files("data") if STUDY in str(each))
    content = json.loads(path.read_text())
    content["document"]["content"]["text"] = "forged"
    path.write_text(json.dumps(content))
    twin = path.with_name("000007.json")
    good = next(each for each in box.files("backup1") if STUDY in str(each))
    twin.write_bytes(good.read_bytes())
    (path.parent / "junk.json").write_bytes(b"\xff\x00{")
    await box.stop()
    shutil.rmtree(box.root / "state")
    await box.start()
    for name in box.names:
        await box.volumes.adopt(name, force=True)
    async with asyncio.timeout(10):
        while await box.reading.documents.get(NOTE) is None:
            await asyncio.sleep(0.05)
    found = await box.reading.documents.history(NOTE, 2**53, 10)
    assert [(each.number, each.content["text"]) for each in found] == [(1, "good")]
    assert await box.reading.documents.get(other) is None


@pytest.mark.spec("ST-7", "VW-5")
async def test_what_belongs_to_a_study_goes_when_it_is_gone_for_good_and_not_before(
    box: ReadingBox,
) -> None:
    await note(box, "keep me", 0)
    other = of_study("1.2.3", Kind.NOTE)
    await box.reading.save(other, {"text": "other"}, author="anna", expected=0)
    await box.paid()
    wanted = True

    async def is_wanted(_uid: str) -> bool:
        return wanted

    box.reading.is_wanted = is_wanted
    box.bus.publish(StudyPurged(study_uid=STUDY, trash_id=7, scope="series"))
    await asyncio.sleep(0.1)
    assert await box.reading.documents.get(NOTE) is not None
    wanted = False
    box.bus.publish(StudyPurged(study_uid=STUDY, trash_id=8, scope="study"))
    async with asyncio.timeout(10):
        while await box.reading.documents.get(NOTE) is not None:
            await asyncio.sleep(0.02)
    await box.paid()
    assert [len(box.files(name)) for name in box.names] == [1, 1]
    assert ("scrigno", "reading-purged", STUDY) in box.audited
    await note(box, "a new study of that UID", 0)
    await box.paid()
    assert [len(box.files(name)) for name in box.names] == [2, 2]


@pytest.mark.spec("VW-9")
async def test_preferences_go_with_their_account_and_what_it_wrote_stays(box: ReadingBox) -> None:
    mine = of_account("Anna", Kind.PREFERENCE, "list")
    await box.reading.save(mine, {"sort": "x"}, author="Anna", expected=0)
    await box.reading.save(mine, {"sort": "yy"}, author="Anna", expected=1)
    assert len(await box.reading.documents.history(mine, 2**53, 10)) == 1
    await note(box, "stays", 0)
    assert await box.reading.forget_account("ANNA") == 1
    assert await box.reading.documents.get(mine) is None
    assert await box.reading.documents.get(NOTE) is not None


async def test_sizes_and_numbers_are_capped(
    box: ReadingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadDocument):
        await note(box, "x" * MOST_BYTES, 0)
    monkeypatch.setattr(documents, "MOST_LAYERS", 2)
    for name in ("a", "b"):
        await box.reading.save(layer(name), {}, author=name, expected=0)
    with pytest.raises(TooMany):
        await box.reading.save(layer("c"), {}, author="c", expected=0)
    monkeypatch.setattr(documents, "MOST_VERSIONS", 3)
    for revision in range(6):
        await note(box, "x" * (9 - revision), revision)
    assert [each.number for each in await box.reading.documents.history(NOTE, 99, 99)] == [6, 5, 4]
    await box.paid()
    assert len([each for each in box.files("data") if "note-" in str(each)]) == 3


@pytest.mark.spec("VW-5")
async def test_where_somebody_was_is_remembered_and_no_business_of_the_volumes(
    box: ReadingBox,
) -> None:
    place = of_study(STUDY, Kind.VIEWER_STATE, "anna")
    for revision in range(3):
        stored = await box.reading.save(
            place, {"active": revision}, author="anna", expected=revision
        )
    assert stored.saved.version.content == {"active": 2}
    await box.paid()
    assert box.files("data") == []


@pytest.mark.spec("VW-5", "DB-3")
async def test_a_damaged_database_is_set_aside_and_the_newest_backup_takes_its_place(
    box: ReadingBox,
) -> None:
    place = of_study(STUDY, Kind.VIEWER_STATE, "anna")
    await box.reading.save(place, {"active": 1}, author="anna", expected=0)
    assert await box.reading.backups.make() == 2
    await note(box, "newer than the backup", 0)
    await box.paid()
    await box.stop()
    path = box.root / "state" / "reading.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    await box.start()
    assert box.reading.restored_from
    assert await box.reading.documents.get(place) is not None
    async with asyncio.timeout(10):
        while await box.reading.documents.get(NOTE) is None:  # from the files
            await asyncio.sleep(0.05)
    assert list((box.root / "state").glob("reading.db.aside-*"))
