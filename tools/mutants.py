# SPDX-License-Identifier: Apache-2.0
"""Break the durable path or a guard on purpose, one at a time, and see a test fail each time.

A mutant that no test catches means that the promise it breaks is not proved. The list is in
tests/mutants.yaml, for guards in tests/security_mutants.yaml: what is broken, by which replacement,
which tests must notice. Each runs on a copy of the checkout; the checkout itself is never touched.

With `--fault-rows` it is the rows of the fault plan (`make faults`) that must notice, those that
the list names for each mutant; then the rows are named that no mutant makes fail, and those prove
nothing yet.
"""

import argparse
import json
import os
import shutil
import subprocess  # noqa: TID251 - a tool of the checkout, not the product
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LISTS = (ROOT / "tests" / "mutants.yaml", ROOT / "tests" / "security_mutants.yaml")
LIMIT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One break: in `file`, the only occurrence of `before` becomes `after`."""

    name: str
    breaks: str
    file: str
    before: str
    after: str
    caught_by: tuple[str, ...] = ()
    fault_rows: tuple[str, ...] = ()  # rows of the fault plan that must turn red


def mutants() -> list[Mutant]:
    """Read the lists."""
    rows = [row for each in LISTS for row in yaml.safe_load(each.read_text(encoding="utf-8"))]
    lists = ("caught_by", "fault_rows")
    return [Mutant(**row | {name: tuple(row.get(name, ())) for name in lists}) for row in rows]


def copy_of_the_checkout(place: Path) -> Path:
    """Copy what the tests need; the environment itself is shared."""
    copy = place / "checkout"
    for name in ("daemon", "tests", "webui", "config", "tools", "docs"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def passes(checkout: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Run the tests against the daemon of `checkout`; returns whether all passed, and the end."""
    data = os.environ.get("SCRIGNO_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "daemon"),
        "SCRIGNO_TEST_DATA": data,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"did not end within {LIMIT_S} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, (lines or done.stdout.splitlines()[-1:] or [""])[0]


def try_out(mutant: Mutant) -> str:
    """Return "" when the mutant is caught, else what is wrong."""
    with tempfile.TemporaryDirectory(prefix="scrigno-mutant-") as place:
        checkout = copy_of_the_checkout(Path(place))
        file = checkout / mutant.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutant.before) != 1:
            return f"{mutant.file} holds the text to break {text.count(mutant.before)} times"
        sound, end = passes(checkout, mutant.caught_by)
        if not sound:
            return f"its tests fail without it: {end}"
        file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
        survived, end = passes(checkout, mutant.caught_by)
        if survived:
            return "SURVIVED: no test noticed"
        sys.stdout.write(f"  caught    {mutant.name:34} {end[:100]}\n")
        sys.stdout.flush()
    return ""


def row_is_green(checkout: Path, row: str) -> tuple[bool, str]:
    """Run one row of the fault plan against the daemon of `checkout`, briefly if it can."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "daemon")}
    results = checkout / "build" / "faults"
    done = subprocess.run(
        [sys.executable, str(checkout / "tools" / "faults.py"), "--brief", "--busy", row],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3 * LIMIT_S,
        check=False,
    )
    failed = [line.strip() for line in done.stdout.splitlines() if "✗" in line]
    if not list(results.glob("*.jsonl")):
        return False, f"the row did not run: {done.stderr[-300:]}"
    return done.returncode == 0, "; ".join(failed)[:160]


def try_rows(mutant: Mutant, sound: dict[str, tuple[bool, str]]) -> dict[str, str]:
    """Return for each fault row of the mutant "" when it turned red, else what is wrong.

    `sound` remembers which rows are green without any mutant.
    """
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="scrigno-mutant-") as place:
        checkout = copy_of_the_checkout(Path(place))
        file = checkout / mutant.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutant.before) != 1:
            reason = f"{mutant.file} holds the text to break {text.count(mutant.before)} times"
            return dict.fromkeys(mutant.fault_rows, reason)
        for row in mutant.fault_rows:
            if row not in sound:
                sound[row] = row_is_green(checkout, row)
        file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
        for row in mutant.fault_rows:
            green, end = sound[row]
            if not green:
                problems[row] = f"it is red without the mutant: {end}"
                continue
            green, end = row_is_green(checkout, row)
            problems[row] = "SURVIVED: the row stays green" if green else ""
            if not green:
                sys.stdout.write(f"  caught     {mutant.name:34} by row {row:4} {end}\n")
                sys.stdout.flush()
    return problems


def main_of_rows(chosen: list[Mutant]) -> int:
    """Try the mutants on the rows of the fault plan; returns 1 when one was not caught."""
    caught: dict[str, list[str]] = {}
    sound: dict[str, tuple[bool, str]] = {}
    failures = 0
    for mutant in chosen:
        for row, problem in try_rows(mutant, sound).items():
            caught.setdefault(row, [])
            if problem:
                failures += 1
                sys.stdout.write(f"  NOT CAUGHT {mutant.name:34} by row {row:4} {problem}\n")
                sys.stdout.flush()
            else:
                caught[row].append(mutant.name)
    store = ROOT / "build" / "faults" / "mutants.json"
    store.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    store.write_text(json.dumps(known | caught, indent=1, sort_keys=True), encoding="utf-8")
    pairs = sum(len(names) for names in caught.values())
    sys.stdout.write(f"{pairs} pairs of mutant and row caught, {failures} not; {store}\n")
    return 1 if failures or not chosen else 0


def main() -> int:
    """Try every mutant, or those named; returns 1 when one survived or could not be applied."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--fault-rows", action="store_true", help="by rows of the fault plan")
    options = parser.parse_args()
    chosen = [each for each in mutants() if not options.names or each.name in options.names]
    if options.fault_rows:
        return main_of_rows([mutant for mutant in chosen if mutant.fault_rows])
    chosen = [mutant for mutant in chosen if mutant.caught_by]
    failures = 0
    for mutant in chosen:
        problem = try_out(mutant)
        if problem:
            failures += 1
            sys.stdout.write(f"  NOT CAUGHT {mutant.name:33} {problem}\n")
    sys.stdout.write(f"{len(chosen) - failures} mutants caught, {failures} not\n")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
