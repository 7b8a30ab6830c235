# SPDX-License-Identifier: Apache-2.0
"""One volume on a plain folder: what its operations promise."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from contents import names_under, sha
from scrigno.volumes.states import ErrorKind, PutOutcome, VolumeError, VolumeState


async def _put(box, name: str, key: str, content: bytes):
    sealed = await box.sealed(content)
    try:
        return await box.volumes.by_name(name).put(
            key, fd=sealed.fd, size=sealed.size, digest=sealed.digest
        )
    finally:
        sealed.close()


@pytest.mark.spec("ST-1", "ST-10")
async def test_an_object_is_put_read_listed_and_removed(box, tmp_path: Path) -> None:
    async with box(data=tmp_path / "data") as b:
        assert b.volumes.by_name("data").state is VolumeState.ABSENT
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        assert volume.state is VolumeState.ONLINE, volume.reason
        content = os.urandom(3 << 20) + b"end"
        key = "studies/1.2/3.4/5.6.dcm"
        assert (await _put(b, "data", key, content)).outcome is PutOutcome.STORED
        assert (tmp_path / "data" / key).read_bytes() == content
        assert (await _put(b, "data", key, content)).outcome is PutOutcome.SAME
        conflict = await _put(b, "data", key, b"other")
        assert conflict.outcome is PutOutcome.CONFLICT
        assert conflict.existing_digest == sha(content)
        assert (tmp_path / "data" / key).read_bytes() == content
        assert b"".join([chunk async for chunk in volume.read(key)]) == content
        part = b"".join([chunk async for chunk in volume.read(key, 1_000_001, 1_500_000)])
        assert part == content[1_000_001:2_500_001]
        assert await volume.digest(key) == (sha(content), len(content))
        assert await volume.head(key, 1000) == content[:1000]
        assert await volume.stat(key) == len(content)
        assert await volume.stat("studies/1.2/3.4/none.dcm") is None
        memory = await volume.read_memfd(key)
        assert os.fstat(memory).st_size == len(content)
        os.close(memory)
        await volume.copy_within(key, "inbox/abc.dcm")
        assert [entry async for entry in volume.walk("inbox")] == [("inbox/abc.dcm", len(content))]
        assert await volume.remove(key)
        assert not await volume.remove(key)
        assert not (tmp_path / "data/studies/1.2").exists()
        assert (tmp_path / "data/inbox/abc.dcm").read_bytes() == content
        # the folder that was removed can be filled again
        assert (await _put(b, "data", key, content)).outcome is PutOutcome.STORED


async def test_reading_what_is_not_there_says_so_and_harms_nobody(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        with pytest.raises(VolumeError) as caught:
            async for _ in volume.read("studies/none.dcm"):
                pass
        assert caught.value.kind is ErrorKind.MISSING
        with pytest.raises(VolumeError):
            await volume.digest("studies/none.dcm")
        assert volume.state is VolumeState.ONLINE


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        ".scrigno-volume.json",
        "a/.b",
        "a/b c",
        "a/é",
        "",
        "a/",
        "a/b/c/d/e/f/g/h/i",
        "a\0b",
    ],
)
async def test_no_key_leads_out_of_a_volume(box, tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        with pytest.raises((VolumeError, UnicodeEncodeError)):
            await _put(b, "data", key, b"x")
        with pytest.raises(VolumeError):
            await b.volumes.by_name("data").digest(key)
    assert names_under(tmp_path / "data") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "staging", "state"]


async def test_a_small_file_replaces_an_older_one_whole(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        await volume.put_bytes("backups/index.json", b"one")
        await volume.put_bytes("backups/index.json", b"two")
        assert (tmp_path / "data/backups/index.json").read_bytes() == b"two"


async def test_a_walk_meets_every_object_once_and_in_order(box, tmp_path: Path) -> None:
    expected = []
    for study in range(30):
        folder = tmp_path / f"data/studies/1.{study}/2"
        folder.mkdir(parents=True)
        for image in range(40):
            (folder / f"{image}.dcm").write_bytes(b"x" * image)
            expected.append((f"studies/1.{study}/2/{image}.dcm", image))
    (tmp_path / "data/studies/.hidden").mkdir()
    async with box(data=tmp_path / "data") as b:
        await b.volumes.adopt("data")
        met = [entry async for entry in b.volumes.by_name("data").walk("studies")]
        assert sorted(met) == sorted(expected)
        assert met == sorted(expected, key=lambda entry: tuple(entry[0].split("/")))
        assert await _first(b.volumes.by_name("data").walk("studies/1.7")) == (
            "studies/1.7/2/0.dcm",
            0,
        )
        scanned = [s async for s in b.volumes.by_name("data").scan("studies/1.3")]
        assert [(s.size, s.digest, s.head) for s in scanned][:11][-1] == (
            scanned[10].size,
            sha(b"x" * scanned[10].size),
            b"x" * scanned[10].size,
        )
        assert len(scanned) == 40


async def _first(generator):
    async for entry in generator:
        await generator.aclose()
        return entry
    return None


async def test_a_walk_goes_on_with_a_new_worker(box, tmp_path: Path) -> None:
    folder = tmp_path / "data/studies/1/2"
    folder.mkdir(parents=True)
    for image in range(1000):
        (folder / f"{image}.dcm").write_bytes(b"")
    async with box(data=tmp_path / "data") as b:
        await b.volumes.adopt("data")
        volume = b.volumes.by_name("data")
        met = []
        async for key, _ in volume.walk("studies"):
            if len(met) == 400:
                volume.link.process.send_signal(signal.SIGKILL)
                await asyncio.sleep(0.05)
                await volume.served.wait()
            met.append(key)
        assert len(met) == len(set(met)) == 1000


@pytest.mark.spec("ST-3")
async def test_a_put_survives_the_death_of_the_worker_under_it(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        sealed = await b.sealed(os.urandom(1000))
        link = volume.link
        link.process.send_signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(
            volume.put("studies/a/b/c.dcm", fd=sealed.fd, size=sealed.size, digest=sealed.digest)
        )
        await asyncio.sleep(0.05)
        link.process.kill()
        assert (await waiting).outcome in (PutOutcome.STORED, PutOutcome.SAME)
        assert volume.link is not link
        assert names_under(tmp_path / "data") == ["studies/a/b/c.dcm"]
        sealed.close()


@pytest.mark.spec("ST-3", "DN-11")
async def test_a_stopped_worker_is_replaced_and_the_loop_never_waits(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        stopped = volume.link.process
        stopped.send_signal(signal.SIGSTOP)
        with pytest.raises(VolumeError) as caught:
            await _put(b, "data", "studies/a/b/c.dcm", b"x")
        assert caught.value.kind is ErrorKind.TIMEOUT
        assert volume.state is VolumeState.OFFLINE
        await stopped.wait(2)
        async with asyncio.timeout(10):
            while volume.state is not VolumeState.ONLINE:
                await asyncio.sleep(0.02)
        assert (await _put(b, "data", "studies/a/b/c.dcm", b"x")).outcome in (
            PutOutcome.STORED,
            PutOutcome.SAME,
        )
        states = [after for _, after in b.changes]
        assert states[-3:] == ["offline", "recovering", "online"]


async def test_many_concurrent_puts_all_arrive(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        contents = [os.urandom(2000) for _ in range(100)]
        await asyncio.gather(
            *(_put(b, "data", f"studies/s/{i % 7}/{i}.dcm", c) for i, c in enumerate(contents))
        )
        for i, content in enumerate(contents):
            path = tmp_path / f"data/studies/s/{i % 7}/{i}.dcm"
            assert path.read_bytes() == content


async def test_no_descriptor_is_left_in_the_worker_or_here(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")

        async def use() -> None:
            for i in range(20):
                await _put(b, "data", f"studies/a/b/{i}.dcm", os.urandom(100))
                await volume.head(f"studies/a/b/{i}.dcm", 10)
                task = asyncio.ensure_future(volume.head(f"studies/a/b/{i}.dcm", 10))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
            assert [s async for s in volume.scan("studies")]
            await asyncio.sleep(0.05)

        await use()
        worker = f"/proc/{volume.link.process.pid}/fd"
        before = len(os.listdir(worker)), len(os.listdir("/proc/self/fd"))
        await use()
        assert (len(os.listdir(worker)), len(os.listdir("/proc/self/fd"))) == before
