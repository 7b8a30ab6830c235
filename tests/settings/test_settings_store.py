# SPDX-License-Identifier: Apache-2.0
"""Revisions: durable before in force, kept, brought back, and never silently replaced."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scrigno.core.clock import SystemClock
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.settings.document import InvalidSettingsError
from scrigno.settings.revisions import RevisionFiles, UnknownRevisionError, to_plain
from scrigno.settings.schema import Language, LimitSettings, Provider, Settings
from scrigno.settings.store import SettingsStore, StaleSettingsError

NewStore = Callable[[], SettingsStore]


def in_language(language: Language) -> Callable[[Settings], Settings]:
    return lambda before: replace(before, language=language)


async def test_the_initial_settings_become_revision_one(store: SettingsStore, initial: Settings):
    assert store.revision == 1
    assert store.current == initial


@pytest.mark.spec("AD-6")
async def test_a_change_is_in_force_at_once_told_and_there_after_a_restart(
    store: SettingsStore, new_store: NewStore, bus: EventBus
):
    heard: list[int] = []
    bus.subscribe(SettingsChanged, lambda event: heard.append(event.revision))
    number = await store.change(in_language(Language.ITALIAN), author="anna", why="we speak it")
    assert (number, store.current.language, heard) == (2, Language.ITALIAN, [2])
    again = new_store()
    await again.open(Settings())
    assert again.current == store.current
    newest = (await again.history())[0]
    assert (newest.number, newest.author, newest.why) == (2, "anna", "we speak it")


async def test_a_change_that_breaks_a_rule_changes_nothing(store: SettingsStore, tmp_path: Path):
    twice = Provider(name="Scrigno", ae_title="OTHER", port=104)
    with pytest.raises(InvalidSettingsError) as caught:
        await store.change(
            lambda before: replace(before, providers=(*before.providers, twice)),
            author="anna",
            why="",
        )
    assert len(caught.value.problems) == 2
    assert store.revision == 1
    assert [each.name for each in (tmp_path / "settings").iterdir()] == ["000001.yaml"]


async def test_a_value_that_could_not_be_read_again_is_refused(store: SettingsStore):
    evil = Provider(name="x", ae_title="TOO\nLONG AND WITH A NEWLINE", port=70000)
    with pytest.raises(InvalidSettingsError):
        await store.change(lambda before: replace(before, providers=(evil,)), author="a", why="")


async def test_equal_settings_make_no_revision(store: SettingsStore):
    assert await store.change(lambda before: before, author="anna", why="nothing") == 1


async def test_two_changes_at_once_both_last(store: SettingsStore):
    def limit(before: Settings) -> Settings:
        return replace(before, limits=replace(before.limits, max_studies=10))

    await asyncio.gather(
        store.change(in_language(Language.KOREAN), author="a", why=""),
        store.change(limit, author="b", why=""),
    )
    assert store.current.language is Language.KOREAN
    assert store.current.limits.max_studies == 10
    assert store.revision == 3


async def test_a_change_based_on_an_older_revision_is_refused(store: SettingsStore):
    mine = store.current
    await store.change(in_language(Language.FRENCH), author="b", why="")
    with pytest.raises(StaleSettingsError):
        await store.change(replace(mine, limits=LimitSettings()), author="a", why="", based_on=1)


@pytest.mark.spec("AD-6")
async def test_an_earlier_revision_comes_back_as_a_new_one(store: SettingsStore, initial: Settings):
    await store.change(in_language(Language.JAPANESE), author="anna", why="")
    assert await store.revert(1, author="bruno") == 3
    assert store.current == initial
    assert (await store.history(1))[0].why == "back to revision 1"
    with pytest.raises(UnknownRevisionError):
        await store.revert(99, author="bruno")


@pytest.mark.spec("AD-6")
async def test_an_export_restores_the_whole_configuration(store: SettingsStore, tmp_path: Path):
    await store.change(in_language(Language.VIETNAMESE), author="anna", why="")
    other = SettingsStore(tmp_path / "other", bus=EventBus(), clock=SystemClock())
    await other.open(Settings())
    await other.import_(store.export(), author="bruno")
    assert other.current == store.current


async def test_an_import_that_is_wrong_names_its_lines(store: SettingsStore):
    with pytest.raises(InvalidSettingsError, match=r"line 2: ingest\.ack_copies"):
        await store.import_("language: it\ningest: {ack_copies: 0}\n", author="anna")
    assert store.revision == 1


def tear(path: Path, share: float = 0.5) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path.read_bytes()


@pytest.mark.spec("AD-6")
async def test_a_torn_newest_revision_is_set_aside_and_told_until_a_person_saves(
    store: SettingsStore, new_store: NewStore, tmp_path: Path
):
    await store.change(in_language(Language.FRENCH), author="anna", why="")
    torn = tear(tmp_path / "settings" / "000002.yaml")
    for _ in range(2):  # the alert outlives a restart
        again = new_store()
        await again.open(Settings())
        assert (again.revision, again.current.language) == (1, Language.ENGLISH)
        assert "000002.yaml.damaged" in again.damage
        assert "revision 1 is in force" in again.damage
    assert (tmp_path / "settings" / "000002.yaml.damaged").read_bytes() == torn
    by_itself = in_language(Language.ITALIAN)
    assert await again.change(by_itself, author="node", why="", by_person=False) == 3
    again = new_store()
    await again.open(Settings())
    assert "000002.yaml.damaged" in again.damage  # a change that no person made confirms nothing
    assert await again.change(again.current, author="anna", why="looked through") == 4
    assert again.damage == ""
    again = new_store()
    await again.open(Settings())
    assert (again.revision, again.damage) == (4, "")
    assert (tmp_path / "settings" / "000002.yaml.damaged").exists()


async def test_a_revision_that_ends_at_the_end_of_a_line_is_torn_too(
    store: SettingsStore, new_store: NewStore, tmp_path: Path
):
    await store.change(in_language(Language.FRENCH), author="anna", why="")
    path = tmp_path / "settings" / "000002.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))  # valid YAML still
    again = new_store()
    await again.open(Settings())
    assert (again.revision, again.current.language) == (1, Language.ENGLISH)
    assert "its end is missing" in again.damage


@pytest.mark.parametrize("rubbish", [b"\0" * 5000, b"\xff\xfe\xfd", b""])
async def test_a_box_whose_revisions_are_all_rubbish_begins_with_its_first_settings(
    store: SettingsStore, new_store: NewStore, tmp_path: Path, rubbish: bytes
):
    await store.change(in_language(Language.FRENCH), author="anna", why="")
    for number in (1, 2):
        (tmp_path / "settings" / f"{number:06}.yaml").write_bytes(rubbish)
    first = replace(Settings(), language=Language.VIETNAMESE)
    for _ in range(2):
        again = new_store()
        await again.open(first)
        assert again.current == first
        assert "000002.yaml.damaged" in again.damage
        assert "000001.yaml.damaged" in again.damage
    assert await again.history() == []
    assert await again.change(again.current, author="anna", why="") == 3


async def test_revisions_of_before_without_an_end_are_read(
    store: SettingsStore, new_store: NewStore, tmp_path: Path
):
    path = tmp_path / "settings" / "000001.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if line not in ("# form: 2\n", "# end\n")))
    again = new_store()
    await again.open(Settings())
    assert (again.revision, again.damage) == (1, "")


async def test_a_stopped_box_is_put_back_to_an_earlier_revision(
    store: SettingsStore, new_store: NewStore, tmp_path: Path
):
    await store.change(in_language(Language.FRENCH), author="anna", why="")
    tear(tmp_path / "settings" / "000002.yaml")
    await new_store().open(Settings())
    revert = RevisionFiles(tmp_path).revert
    await asyncio.to_thread(revert, 1, author="console", clock=SystemClock())
    repaired = new_store()
    await repaired.open(Settings())
    assert (repaired.revision, repaired.damage) == (3, "")


async def test_a_torn_temporary_file_is_not_a_revision(
    store: SettingsStore, new_store: NewStore, tmp_path: Path
):
    (tmp_path / "settings" / ".000002.yaml.77.new").write_bytes(b"langu")
    again = new_store()
    await again.open(Settings())
    assert again.revision == 1


async def test_author_and_reason_cannot_forge_a_heading(store: SettingsStore, tmp_path: Path):
    await store.change(in_language(Language.FRENCH), author="x\n# author: y", why="a\nlanguage: it")
    assert (await store.history(1))[0].author == "x # author: y"
    assert store.current.language is Language.FRENCH
    record = await asyncio.to_thread(RevisionFiles(tmp_path).read, 2)
    assert record.settings.language is Language.FRENCH


async def test_a_caller_that_goes_away_does_not_leave_a_change_half_made(
    store: SettingsStore, new_store: NewStore
):
    task = asyncio.create_task(store.change(in_language(Language.FRENCH), author="a", why=""))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.change(in_language(Language.ITALIAN), author="a", why="")
    again = new_store()
    await again.open(Settings())
    assert (again.current, again.revision) == (store.current, store.revision)


def test_settings_files_can_be_read_by_their_owner_only(tmp_path: Path, initial: Settings):
    async def write() -> None:
        opened = SettingsStore(tmp_path, bus=EventBus(), clock=SystemClock())
        await opened.open(initial)

    asyncio.run(write())
    assert (tmp_path / "settings" / "000001.yaml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "settings").stat().st_mode & 0o777 == 0o700


def test_the_document_of_the_settings_holds_only_json_values(initial: Settings):
    document = to_plain(initial)
    assert isinstance(document, dict)
    assert list(document)[:2] == ["volumes", "dicom"]
