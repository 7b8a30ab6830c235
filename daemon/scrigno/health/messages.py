# SPDX-License-Identifier: Apache-2.0
"""What is sent: several changes as one mail in words, or as one JSON document. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .alerts import Action, Alert, Change
from .outbox import Item
from .texts import alert_text, word, written

MOST_IN_A_MAIL: Final = 50
LATE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """Subject, level for machines, and plain text."""

    subject: str
    level: str
    text: str


def mail_of(items: Sequence[Item], *, box: str, language: str, now: datetime) -> Mail:
    """Put changes, in order of sequence, into one mail; `items` must not be empty.

    The subject names the worst that was raised; what is over comes first only when nothing else is.
    """
    changes = [item.change for item in items if item.change.alert is not None]
    raised = [change for change in changes if change.action is not Action.CLEARED]
    first = max(raised or changes, key=lambda change: _alert(change).level.rank)
    subject = _headline(first, language).rstrip(".。")
    if len(changes) > 1:
        more = written("count", len(changes) - 1, language)
        subject = word("mail.more", language, summary=subject, n=more)
    blocks = [_block(change, language) for change in changes[-MOST_IN_A_MAIL:]]
    if len(changes) > MOST_IN_A_MAIL:
        left_out = written("count", len(changes) - MOST_IN_A_MAIL, language)
        blocks.insert(0, word("mail.left-out", language, n=left_out))
    if now - min(item.queued_at for item in items) > LATE:
        blocks.insert(0, word("mail.late", language))
    blocks.append(word("mail.footer", language, box=box))
    return Mail(
        subject=f"[{box}] {subject}",
        level=_alert(first).level.value,
        text="\n\n".join(blocks) + "\n",
    )


def test_mail(*, box: str, language: str) -> Mail:
    """Return the mail by which somebody tries out a channel."""
    return Mail(
        subject=f"[{box}] {word('test.subject', language)}",
        level="info",
        text=f"{word('test.body', language)}\n\n{word('mail.footer', language, box=box)}\n",
    )


def document_of(
    items: Sequence[Item], *, box: str, language: str, now: datetime, test: bool = False
) -> dict[str, Any]:
    """Return the same for a program: `alerts` holds one object for each change."""
    return {
        "box": box,
        "sent_at": now.astimezone(UTC).isoformat(),
        "test": test,
        "alerts": [
            _object(item.change, language) for item in items if item.change.alert is not None
        ],
    }


def _alert(change: Change) -> Alert:
    if change.alert is None:
        raise ValueError("a change without an alert is not sent")
    return change.alert


def _headline(change: Change, language: str) -> str:
    alert = _alert(change)
    summary = alert_text(alert.code, alert.subject, alert.values, language).summary
    if change.action is Action.CLEARED:
        return word("mail.over", language, summary=summary)
    return f"{word(f'level.{alert.level.value}', language)}: {summary}"


def _block(change: Change, language: str) -> str:
    alert = _alert(change)
    lines = [_headline(change, language)]
    if change.action is Action.CLEARED:
        lines.append(word("mail.until", language, since=_time(alert.since), until=_time(change.at)))
        return "\n".join(lines)
    text = alert_text(alert.code, alert.subject, alert.values, language)
    lines.append(text.explanation)
    lines.append(word("mail.next", language, text=text.next_step))
    lines.append(word("mail.since", language, time=_time(alert.since)))
    if alert.count > 1:
        lines.append(word("mail.count", language, n=written("count", alert.count, language)))
    return "\n".join(lines)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _object(change: Change, language: str) -> dict[str, Any]:
    alert = _alert(change)
    text = alert_text(alert.code, alert.subject, alert.values, language)
    return {
        "sequence": change.sequence,
        "at": change.at.isoformat(),
        "action": change.action.value,
        "alert_id": alert.alert_id,
        "code": alert.code,
        "level": alert.level.value,
        "subject": alert.subject,
        "values": dict(alert.values),
        "since": alert.since.isoformat(),
        "count": alert.count,
        "summary": text.summary,
        "explanation": text.explanation,
        "next_step": text.next_step,
    }
