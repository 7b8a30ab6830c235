# SPDX-License-Identifier: Apache-2.0
"""The tree a newcomer meets: top level, rooms named in the documents, the operator's files."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.spec("BX-2")
def test_the_top_level_is_the_one_of_the_specification() -> None:
    for name in ("daemon", "webui", "system", "config", "tests", "debian", "bench", "docs"):
        assert (ROOT / name).is_dir(), name
    for name in ("pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md"):
        assert (ROOT / name).is_file(), name


def test_every_room_that_the_architecture_names_is_there_and_the_other_way_round() -> None:
    text = (ROOT / "docs" / "developer" / "architecture.md").read_text(encoding="utf-8")
    table = [line.split("|")[2] for line in text.splitlines() if re.match(r"\| [1-6]½? \|", line)]
    named = {room for cell in table for room in re.findall(r"`(\w+)`", cell)}
    there = {path.parent.name for path in (ROOT / "daemon" / "scrigno").glob("*/__init__.py")}
    assert named == there


def test_every_room_says_what_it_promises_and_nothing_else() -> None:
    for path in (ROOT / "daemon" / "scrigno").glob("*/__init__.py"):
        text = path.read_text(encoding="utf-8")
        assert '"""' in text, f"{path.parent.name} does not say what it is for"
        assert "import" not in text.split('"""')[2], f"{path.parent.name} exports by its package"


def test_the_makefile_explains_every_verb_in_a_line() -> None:
    verbs = re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {verb for verb, _ in verbs}
    assert {"build", "run", "test", "check", "bench", "spec", "mutants", "deb", "clean"} <= named


def test_the_service_does_not_depend_on_any_data_volume() -> None:
    # a service that requires a mount is stopped with it (systemd.unit(5)): the opposite of ST-3
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(ROOT / "system" / "scrigno.service")
    needed = " ".join(unit["Unit"].get(key, "") for key in ("Requires", "RequiresMountsFor"))
    assert "/srv" not in needed
    assert unit["Service"]["ReadWritePaths"].startswith("-"), "a missing folder must not stop it"
    assert unit["Service"]["User"] == "scrigno"
