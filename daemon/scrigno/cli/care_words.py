# SPDX-License-Identifier: Apache-2.0
"""Answers about looking after images as text for a terminal. Pure functions from JSON."""

from collections.abc import Mapping
from typing import Any

from .words import size, table

Json = Mapping[str, Any]


def scrub(answer: Json) -> str:
    """Return how far the scrub of each volume is."""
    rows = [("volume", "state", "read", "rate", "left", "bad", "repaired", "last finished")]
    for each in answer["volumes"]:
        state = each["state"] + (f" ({each['reason']})" if each["reason"] else "")
        rows.append(
            (
                each["volume"],
                state,
                f"{each['checked_objects']} of {each['total_objects']}",
                f"{size(each['bytes_per_s'])}/s" if each["bytes_per_s"] else "",
                duration(each["left_s"]),
                str(each["bad"]),
                str(each["repaired"]),
                (each["last_finished"] or "never") + (" OVERDUE" if each["overdue"] else ""),
            )
        )
    lines = [table(rows)]
    lines += [
        f"{each['volume']}: {each['unrepairable']} images have no good copy: scrigno quarantine"
        for each in answer["volumes"]
        if each["unrepairable"]
    ]
    if answer["paused"]:
        lines.append("The scrub is paused until: scrigno scrub resume")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return a time span for people."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def quarantine(answer: Json) -> str:
    """Return what was set aside, then what has no good copy."""
    lines = [f"{len(answer['files'])} files were set aside"]
    lines += [
        f"  {each['set_aside_at']} {each['volume']} {each['why']}: {each['key']}, "
        f"{size(each['size_bytes'])}"
        + (f", was {each['object_key']}" if each["object_key"] else "")
        for each in answer["files"]
    ]
    lines.append(f"{len(answer['lost'])} images of which no good copy can be read")
    lines += [
        f"  {each['kind']}: {each['name']} of study {each['study_instance_uid'] or '(inbox)'}"
        + (f"; {', '.join(each['away'])} may have one" if each["away"] else "")
        for each in answer["lost"]
    ]
    return "\n".join(lines)


def trash(answer: Json) -> str:
    """Return what can be brought back. Names of patients are not shown on a terminal."""
    rows = [("item", "deleted", "kept until", "by", "images", "size", "study", "reason")]
    rows += [
        (
            str(each["id"]),
            each["deleted_at"],
            each["kept_until"],
            each["account"],
            str(each["objects"]),
            size(each["size_bytes"]),
            each["study_instance_uid"],
            each["reason"],
        )
        for each in answer["items"]
    ]
    lines = [table(rows)] if answer["items"] else ["The trash is empty."]
    if answer["error"]:
        lines.append(f"The trash waits: {answer['error']}")
    return "\n".join(lines)


def deleted(answer: Json) -> str:
    """Return what was moved to the trash and how it comes back."""
    return (
        f"{answer['objects']} images of study {answer['study_instance_uid']} are in the trash as "
        f"item {answer['id']}, until {answer['kept_until']}.\n"
        f"To bring them back: scrigno trash restore {answer['id']}"
    )


def protected(answer: Json) -> str:
    """Return whether a study is protected now."""
    state = (
        "is protected: nobody and no rule can delete it"
        if answer["protected"]
        else "can be deleted"
    )
    return f"Study {answer['study_instance_uid']} {state}."


def inbox(answer: Json) -> str:
    """Return what waits for a decision, and the last ones. No names of patients."""
    rows = [("item", "why", "received", "from", "size", "object")]
    rows += [
        (
            str(each["id"]),
            each["reason"],
            each["received_at"],
            each["calling_ae"] or each["door"],
            size(each["size_bytes"]),
            each["sop_instance_uid"] or "(unknown)",
        )
        for each in answer["items"]
    ]
    lines = [table(rows)] if answer["items"] else ["Nothing waits in the inbox."]
    if answer["patients"]:
        lines.append(f"{answer['patients']} studies have a patient ID of somebody else.")
    if answer["decisions"]:
        lines += ["", "The last decisions; one that is done can be taken back by its number:"]
        lines += [f"  {_decision(each)}" for each in answer["decisions"]]
    return "\n".join(lines)


def _decision(each: Json) -> str:
    undone = f" by {each['undone_by']}" if each["undone_by"] else ""
    return (
        f"{each['id']}: {each['kind']} by {each['account']} at {each['decided_at']}, "
        f"{each['phase']}{undone}"
    )


def decision(answer: Json) -> str:
    """Return what became of a kept object."""
    if "outcome" in answer:
        return f"Taken into study {answer['study_instance_uid']} ({answer['outcome']})."
    if answer["phase"] == "undone":
        return f"Decision {answer['id']} ({answer['kind']}) is taken back."
    return f"Done. To take it back: scrigno inbox undo {answer['id']}"


def alerts(answer: Json) -> str:
    """Return what is open in words, the worst first."""
    blocks = []
    for each in answer["alerts"]:
        seen = f" ({each['acknowledged_by']} takes care of it)" if each["acknowledged_by"] else ""
        blocks.append(
            f"{each['level'].upper()} {each['code']} since {each['since']}{seen}\n"
            f"  {each['summary']}\n  {each['explanation']}\n  Next step: {each['next_step']}"
        )
    return "\n\n".join(blocks) or "Nothing is wrong."


def backups(answer: Json) -> str:
    """Return how the index is and its backups."""
    checked = f", last read through {answer['checked_at']}" if answer["checked_at"] else ""
    reason = f" ({answer['reason']})" if answer["reason"] else ""
    rows = [("volume", "name", "made", "size", "studies", "images", "read back")]
    rows += [
        (
            each["volume"],
            each["name"],
            each["made_at"],
            size(each["size_bytes"]),
            "?" if each["studies"] is None else str(each["studies"]),
            "?" if each["objects"] is None else str(each["objects"]),
            each["verified_at"] or "no",
        )
        for each in answer["backups"]
    ]
    listed = table(rows) if answer["backups"] else "No volume that can be read has a backup."
    return f"The index is {answer['state']}{reason}{checked}.\n{listed}"


def restored_index(answer: Json) -> str:
    """Return what a restore did."""
    backup = answer["backup"]
    lines = [
        f"The backup {backup['name']} of volume {backup['volume']} is in force.",
        f"{answer['taken_in']} newer images were taken in from the volumes, "
        f"{answer['from_journal']} from the journal.",
    ]
    if answer["set_aside"]:
        lines.append(f"The index before it is kept as {answer['set_aside']}.")
    lines += [
        f"Volume {name} is away and is compared when it is back."
        for name in answer["skipped_volumes"]
    ]
    return "\n".join(lines)


def audit(answer: Json) -> str:
    """Return whether the trail is whole."""
    if answer["whole"]:
        return "The audit trail is whole: no line was changed, taken out or put in."
    return "\n".join(
        ["THE AUDIT TRAIL IS NOT WHOLE:", *(f"  {each}" for each in answer["problems"])]
    )


def lone(answer: Json) -> str:
    """Return how the files of a volume are that is not in service."""
    counts = answer["counts"]
    lines = [
        f"{sum(counts.values())} files, {size(answer['bytes'])} read: {counts['good']} good, "
        f"{counts['changed']} changed, {counts['unreadable']} unreadable, "
        f"{counts['missing']} missing, {counts['unnoted']} without a digest beside them"
    ]
    lines += [
        f"  {each['finding']}: {each['path']}" + (f" ({each['reason']})" if each["reason"] else "")
        for each in answer["bad"]
    ]
    return "\n".join(lines)
