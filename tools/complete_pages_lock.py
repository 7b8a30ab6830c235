# SPDX-License-Identifier: Apache-2.0
"""Name in webui/package-lock.json the parts for other platforms that a registry did not have.

`npm ci` refuses a lock that leaves out an optional part, even one for another operating system.
A mirror that holds the parts of one platform gives such a lock at `npm install`: run this after.
"""

import json
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "webui" / "package-lock.json"
SYSTEMS = ("android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "win32", "sunos", "aix",
           "openharmony", "wasm32")  # fmt: skip
PROCESSORS = ("arm64", "x64", "arm", "ia32", "ppc64", "riscv64", "s390x", "loong64", "mips64el")


def part(name: str, version: str) -> dict[str, Any]:
    """Return the entry of an optional part by what its name says of its platform."""
    words = name.rpartition("/")[2].replace("_", "-").split("-")
    systems = [word for word in words if word in SYSTEMS]
    processors = [word for word in words if word in PROCESSORS]
    entry: dict[str, Any] = {"version": version, "dev": True, "optional": True}
    if systems:
        entry["os"] = systems
    if processors:
        entry["cpu"] = processors
    if not systems and not processors:
        entry["os"] = ["none"]
    return entry


def main() -> int:
    """Add what is missing; print how many."""
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    packages = lock["packages"]
    added = 0
    for entry in list(packages.values()):
        for name, version in entry.get("optionalDependencies", {}).items():
            key = f"node_modules/{name}"
            if key not in packages:
                packages[key] = part(name, version.lstrip("^~"))
                added += 1
    lock["packages"] = dict(sorted(packages.items()))
    LOCK.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"complete_pages_lock: {added} parts of other platforms named\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
