# SPDX-License-Identifier: Apache-2.0
"""Answers of the daemon as text for a terminal. Pure functions from the answer's JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def size(count: float | None) -> str:
    """Return a number of bytes for people, in binary units."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of equal width, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def progress(step: Json) -> str:
    """Return one line for `{"done": n, "total": N | null, "what": text}`."""
    total = step.get("total")
    return f"{step['done']}{f' of {total}' if total else ''} {step.get('what', '')}".rstrip()


def status(answer: Json) -> str:
    """Return the state of the box, its parts and what needs a hand."""
    lines = [
        f"Scrigno {answer['version']}: "
        + ("images can be stored and read" if answer["ready"] else "NOT READY"),
        *(f"  {reason}" for reason in answer["reasons"]),
        "",
        f"studies {answer['totals']['studies']}, series {answer['totals']['series']}, "
        f"images {answer['totals']['instances']}, in the inbox {answer['inbox']}",
        "",
        volume_table(answer["volumes"]),
        "",
        table(
            [
                ("provider", "AE title", "port", "associations", "state"),
                *(
                    (
                        each["name"],
                        each["ae_title"],
                        str(each["port"]),
                        str(each["associations"]),
                        each["state"],
                    )
                    for each in answer["providers"]
                ),
            ]
        ),
    ]
    for condition in answer["conditions"]:
        lines += [
            "",
            f"{condition['level'].upper()} {condition['code']}: {condition['summary']}",
            f"  {condition['explanation']}",
            f"  Next step: {condition['next_step']}",
        ]
    return "\n".join(lines)


def volume_table(volumes: Sequence[Json]) -> str:
    """Return the volumes with state, room and debts."""
    return table(
        [
            ("volume", "role", "state", "free", "owed", "path"),
            *(
                (
                    each["name"],
                    each["role"],
                    each["state"] + (f" ({each['reason']})" if each["reason"] else ""),
                    f"{size(each['free_bytes'])} of {size(each['total_bytes'])}",
                    str(each["owed"]),
                    each["path"],
                )
                for each in volumes
            ),
        ]
    )


def import_report(answer: Json) -> str:
    """Return the counts, then each refused file with its reason."""
    counts = answer["counts"]
    lines = [", ".join(f"{name} {number}" for name, number in counts.items())]
    lines += [f"  {each['path']}: {each['reason']}" for each in answer["refused"]]
    if answer.get("cancelled"):
        lines.append("Stopped before the end; run it again to go on, nothing is taken in twice.")
    return "\n".join(lines)


def verify_report(answer: Json) -> str:
    """Return how many copies were read and which are not as they should be."""
    lines = [
        f"{answer['instances']} images: {answer['copies_good']} copies good, "
        f"{answer['copies_bad']} bad of which {answer['repaired']} repaired, "
        f"{answer['copies_skipped']} not read because their volume is away"
    ]
    lines += [
        f"  {each['problem']}: {each['volume']} {each['key']}"
        + (" (repaired from a good copy)" if each["repaired"] else "")
        for each in answer["bad"]
    ]
    if answer["verified_on"] and not answer["unverified"]:
        lines.append(f"Every copy was read back and is right since {answer['verified_on']}.")
    return "\n".join(lines)


def rebuild_report(answer: Json) -> str:
    """Return what the index got and what could not be taken in."""
    lines = [
        f"{answer['scanned']} files read from {', '.join(answer['volumes'])} in "
        f"{answer['seconds']:.1f} s: {answer['added']} added, {answer['known']} known already, "
        f"{answer['inbox']} to the inbox, {answer['damaged']} damaged"
    ]
    for kind in ("unreadable", "conflicts", "refused"):
        lines += [f"  {kind}: {key}" for key in answer[kind]]
    return "\n".join(lines)


def reconcile_report(answer: Json) -> str:
    """Return the differences between the index and the volumes."""
    lines = [
        f"{answer['instances']} images in the index, {answer['files']} files on "
        f"{', '.join(answer['volumes']) or 'no volume'}: {answer['found']} differences, "
        f"{answer['fixed']} mended"
    ]
    lines += [f"  not looked at, because it is away: {name}" for name in answer["skipped"]]
    lines += [
        f"  {each['kind']}: {each['volume']} {each['key']}"
        + (" (mended)" if each["fixed"] else "")
        + (f" {each['note']}" if each["note"] else "")
        for each in answer["discrepancies"]
    ]
    return "\n".join(lines)
