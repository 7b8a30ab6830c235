# SPDX-License-Identifier: Apache-2.0
"""List the licences of everything that ships; fail on a copyleft one that nobody has explained.

What ships is what requirements.lock names. A package under a copyleft licence passes only when
docs/dependencies.md has a line for it that names that licence.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPYLEFT = re.compile(r"\b(?:A?GPL|LGPL|GNU|MPL|Mozilla|EUPL|CDDL|SSPL)", re.IGNORECASE)
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def licence_of(name: str) -> str:
    """Return the licence a distribution states: SPDX expression, classifiers or text."""
    meta = metadata.metadata(name)
    expression = meta.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in meta.get_all("Classifier", [])
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    return ", ".join(classifiers) or (meta.get("License") or "").split("\n")[0].strip()


def main() -> int:
    """Print one line a package; return 1 when a licence is unknown or an unexplained copyleft."""
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    failures = []
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        match = LOCKED.match(line)
        if match is None:
            continue
        name = match.group(1)
        licence = licence_of(name)
        row = next((row for row in explained.splitlines() if f"`{name}`" in row), "")
        if not licence and not row:
            failures.append(f"{name}: states no licence and has no line in docs/dependencies.md")
        elif COPYLEFT.search(licence) and not COPYLEFT.search(row):
            failures.append(
                f"{name}: {licence} is copyleft and docs/dependencies.md does not say so"
            )
        sys.stdout.write(f"  {name:26} {licence or 'see docs/dependencies.md'}\n")
    for failure in failures:
        sys.stderr.write(f"licences: {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
