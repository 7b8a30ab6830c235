# SPDX-License-Identifier: Apache-2.0
"""Rules of this project that no linter knows, each a small search with its reason."""

import re
import subprocess  # noqa: TID251 - a tool of the checkout, not the product
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Lines matching `pattern` in files under `where` are refused, except in `allowed` places."""

    name: str
    pattern: str
    where: str
    allowed: tuple[str, ...] = ()


RULES = (
    Rule(
        name="no process is started outside the host room",
        pattern=r"\b(?:import subprocess|create_subprocess_|os\.(?:fork|exec|spawn|system))",
        where="daemon/",
        allowed=("daemon/scrigno/host/",),
    ),
    Rule(
        name="no memory map: a dead disk under one kills the process (SIGBUS)",
        pattern=r"\bimport mmap\b|np\.memmap|numpy\.memmap",
        where="daemon/",
        # maps memory files only, never a file of a disk
        allowed=(
            "daemon/scrigno/imaging/protocol.py",
            "daemon/scrigno/imaging/results.py",
            "daemon/scrigno/imaging/workers.py",
        ),
    ),
    Rule(
        name="health posts by aiohttp's client; the server side has its one door in web",
        pattern=r"aiohttp\.web|aiohttp import.*\bweb\b",
        where="daemon/scrigno/health/",
    ),
    Rule(
        name="no task without an owner: a bare create_task is lost when it fails",
        pattern=r"^\s*(?:asyncio\.|loop\.)create_task\(",
        where="daemon/",
    ),
    Rule(
        name="a descriptor is used while its owner is held: `x().fd` may name another file by then",
        pattern=r"\)\.fd\b",
        where="daemon/",
    ),
    Rule(
        name="nothing is fetched from outside the box by the pages",
        pattern=r"""(?:src|href)=["']https?://|@import\s+url\(|fetch\(["']https?://""",
        where="webui/",
    ),
    Rule(
        name="a marker left in the text says that work is not done",
        pattern=r"\b(?:TODO|FIXME|XXX)\b",
        where="",
        allowed=("tools/house_rules.py",),
    ),
)


def tracked_files() -> list[str]:
    """Return every file git knows, relative to the root."""
    answer = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return answer.stdout.splitlines()


def breaches(rule: Rule, files: list[str]) -> Iterator[str]:
    """Yield `file:line` for each line that breaks `rule`."""
    pattern = re.compile(rule.pattern)
    for name in files:
        if not name.startswith(rule.where) or name.startswith(rule.allowed or ("\0",)):
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()[:90]}"


def missing_licence_lines(files: list[str]) -> Iterator[str]:
    """Yield source files that do not start with their SPDX line."""
    for name in files:
        if name.endswith((".py", ".js", ".css")) and (ROOT / name).exists():
            head = (ROOT / name).read_text(encoding="utf-8")[:200]
            if head and "SPDX-License-Identifier: Apache-2.0" not in head:
                yield name


def main() -> int:
    """Print each breach; return 1 when there is one."""
    files = tracked_files()
    failed = False
    for rule in RULES:
        for breach in breaches(rule, files):
            failed = True
            sys.stderr.write(f"house rule broken ({rule.name}): {breach}\n")
    for name in missing_licence_lines(files):
        failed = True
        sys.stderr.write(f"house rule broken (each source file states its licence): {name}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
