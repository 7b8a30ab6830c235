# SPDX-License-Identifier: Apache-2.0
"""One-time keys: what `openssl` encrypts is understood once; all else says and costs the same."""

import asyncio
import base64
import subprocess  # noqa: TID251 - the caller of another maker
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from scrigno.access import otp
from scrigno.access.otp import LIFETIME_S, OneTimeKeys, PublicKey, TooManyCodes
from scrigno.core.counters import Counters

TEXT = "id=anna&password=corretto cavallo"


@pytest.fixture
async def keys(clock) -> AsyncIterator[OneTimeKeys]:
    made = OneTimeKeys(clock=clock, counters=Counters())
    yield made
    await made.close()


def whole(text: str) -> str | None:
    return text if text.startswith("id=") and "&password=" in text else None


def encrypted(key: PublicKey, tmp_path: Path, *options: str, text: str = TEXT) -> bytes:
    """Encrypt as a caller does, with OpenSSL's command."""
    path = tmp_path / "key.pem"
    path.write_text(key.pem)
    command = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", str(path)]
    for option in options:
        command += ["-pkeyopt", option]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


PKCS = ("rsa_padding_mode:pkcs1",)
OAEP1 = ("rsa_padding_mode:oaep", "rsa_oaep_md:sha1")
OAEP256 = ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256")


@pytest.mark.spec("IN-3")
@pytest.mark.parametrize("options", [PKCS, OAEP1, OAEP256])
async def test_a_code_is_understood_in_every_padding_and_spelling_and_only_once(
    keys: OneTimeKeys, tmp_path: Path, options: tuple[str, ...]
) -> None:
    for spell in (
        lambda raw: base64.b64encode(raw).decode(),
        lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
        lambda raw: quote(base64.b64encode(raw).decode(), safe=""),
        lambda raw: base64.b64encode(raw).decode().replace("+", " "),  # undone once too often
        lambda raw: base64.encodebytes(raw).decode(),
        bytes.hex,
    ):
        key = await keys.issue("10.0.0.1")
        raw = await asyncio.to_thread(encrypted, key, tmp_path, *options)
        assert await keys.open(spell(raw), whole) == TEXT
        assert await keys.open(spell(raw), whole) is None


@pytest.mark.spec("IN-3")
async def test_a_key_dies_after_its_lifetime(keys: OneTimeKeys, tmp_path: Path, clock) -> None:
    key = await keys.issue("10.0.0.1")
    code = (await asyncio.to_thread(encrypted, key, tmp_path, *PKCS)).hex()
    clock.move(LIFETIME_S + 0.1)
    assert await keys.open(code, whole) is None
    assert LIFETIME_S <= 60


@pytest.mark.spec("IN-3")
async def test_the_right_key_is_found_among_many_and_the_others_live_on(
    keys: OneTimeKeys, tmp_path: Path
) -> None:
    several = [await keys.issue("10.0.0.1") for _ in range(5)]
    codes = [await asyncio.to_thread(encrypted, each, tmp_path, *OAEP256) for each in several]
    assert await keys.open(codes[3].hex(), whole) == TEXT
    assert await keys.open("not a code at all", whole) is None
    assert await keys.open(codes[1].hex(), whole) == TEXT


@pytest.mark.spec("IN-3")
async def test_two_at_the_same_moment_are_not_both_let_in(
    keys: OneTimeKeys, tmp_path: Path
) -> None:
    key = await keys.issue("10.0.0.1")
    code = (await asyncio.to_thread(encrypted, key, tmp_path, *PKCS)).hex()
    found = await asyncio.gather(*(keys.open(code, whole) for _ in range(4)))
    assert sorted(found, key=str) == [None, None, None, TEXT]


@pytest.mark.spec("IN-3")
async def test_nothing_is_learnt_from_a_wrong_padding(
    keys: OneTimeKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure decrypts as often, and PKCS#1 v1.5 gives bytes for any ciphertext.

    With an error for wrong padding, a million questions would decrypt a code that was overheard.
    """
    for _ in range(3):
        key = await keys.issue("10.0.0.1")
    right = await asyncio.to_thread(encrypted, key, tmp_path, *PKCS, text="id=anna no password")
    tried: list[int] = []
    plains: list[int] = []

    def count(text: str) -> None:
        tried.append(1)
        plains.append(len(text))

    costs = []
    changed = bytes([right[0] ^ 1]) + right[1:]
    for code in (right.hex(), changed.hex(), "", "%%%", "x" * 5000, ("ff" * 256), ("00" * 256)):
        tried.clear()
        assert await keys.open(code, count) is None
        costs.append(len(tried))
        assert len(otp._ciphertext(code)) == otp.KEY_BYTES  # a short one would cost no work
    assert set(costs) == {3 * 3}
    live = keys._live[0].key
    for wrong in (b"\0" * 255 + b"\2", b"\0" + bytes(range(255)), b"\1" * 256):
        assert isinstance(live.decrypt(wrong, otp._PADDINGS[0]), bytes)


@pytest.mark.spec("IN-3", "DN-11")
async def test_keys_are_capped_for_one_address_and_in_all(
    keys: OneTimeKeys, monkeypatch: pytest.MonkeyPatch, clock
) -> None:
    monkeypatch.setattr(otp, "MOST_PER_ADDRESS", 2)
    monkeypatch.setattr(otp, "MOST_LIVE", 3)
    await keys.issue("a")
    await keys.issue("a")
    with pytest.raises(TooManyCodes):
        await keys.issue("a")
    await keys.issue("b")
    with pytest.raises(TooManyCodes):
        await keys.issue("c")
    clock.move(LIFETIME_S + 1)
    await keys.issue("a")


async def test_making_keys_does_not_hold_the_loop(keys: OneTimeKeys) -> None:
    """RSA keys are made in a thread; the loop must turn meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(turn())
    await keys.issue("a")
    task.cancel()
    assert turns > 20
