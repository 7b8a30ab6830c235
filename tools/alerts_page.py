# SPDX-License-Identifier: Apache-2.0
"""Write the tables of docs/admin/alerts.md from the classes and English texts of the alerts."""

import re
from collections.abc import Iterator
from pathlib import Path

from scrigno.health.codes import CLASSES, AlertClass, Category, Kind
from scrigno.health.texts import CATALOGUES, PLACEHOLDER, SOURCE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "admin" / "alerts.md"
# What stands above is written by hand.
MARK = "<!-- from here on written by tools/alerts_page.py -->\n"
TITLES = {
    Category.VOLUME: "Volumes and space",
    Category.IMAGES: "Images",
    Category.INDEX: "Index",
    Category.DISK: "Disks and arrays",
    Category.MACHINE: "The machine",
    Category.POWER: "Power",
    Category.NODE: "DICOM connections",
    Category.SECURITY: "Security",
    Category.SYSTEM: "The archive itself",
}


def page() -> str:
    """Return the whole page as it should be."""
    above, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return above + MARK + "\n".join(_sections())


def _sections() -> Iterator[str]:
    for category, title in TITLES.items():
        yield f"## {title}\n| code | level | meaning | next step |\n|---|---|---|---|"
        for about in CLASSES.values():
            if about.category is category:
                yield _row(about)
        yield ""


def _row(about: AlertClass) -> str:
    text = CATALOGUES[SOURCE].alerts[about.code]
    risk = " ●" if about.data_at_risk else ""
    level = about.level.value + (", event" if about.kind is Kind.EVENT else "")
    meaning = _plain(f"{text.summary} {text.explanation}", about)
    return f"| `{about.code}`{risk} | {level} | {meaning} | {_plain(text.next_step, about)} |"


def _plain(text: str, about: AlertClass) -> str:
    """Return a text with the names of its values in the place of the values."""
    names = {"subject": f"*{about.subject}*"}
    return re.sub(
        PLACEHOLDER,
        lambda found: names.get(found[1]) or f"*{_name(found[1])}*",
        text,
    )


def _name(value: str) -> str:
    name = re.sub(r"_(?:percent|bytes|per_s|s|c|day)$", "", value)
    return {"left": "time left", "percent": "share", "free": "free", "full": "day"}.get(name, name)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
