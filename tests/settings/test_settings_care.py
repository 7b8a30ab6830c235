# SPDX-License-Identifier: Apache-2.0
"""Settings of care and alerts: read in words, secrets hidden on the way out."""

import pytest

from scrigno.settings.boot import read_settings
from scrigno.settings.care import MailSecurity
from scrigno.settings.document import InvalidSettingsError, from_plain
from scrigno.settings.revisions import to_plain
from scrigno.settings.secrets import HIDDEN, hidden, revealed

MAIL = {
    "name": "office",
    "host": "mail.clinic.example",
    "recipients": ["it@clinic.example"],
    "sender": "box@clinic.example",
    "user": "box",
    "password": "correct horse",
}


def read(**keys: object):
    return read_settings(from_plain(keys), source="test")


@pytest.mark.spec("AD-6", "ST-6", "ST-7", "AD-11")
def test_care_and_alerts_are_read_and_written_back_the_same():
    settings = read(
        care={
            "scrub": {"every_days": 14, "window": "22:00-06:00"},
            "retention": [{"name": "old CR", "older_than_days": 3650, "modalities": ["CR"]}],
        },
        alerts={
            "mail": [MAIL],
            "webhooks": [{"name": "desk", "url": "https://desk.example/hook", "secret": "s"}],
            "ups": "ups@localhost",
        },
    )
    assert settings.care.scrub.every_days == 14
    assert settings.care.retention[0].modalities == ("CR",)
    assert settings.alerts.mail[0].security is MailSecurity.STARTTLS
    assert read_settings(from_plain(to_plain(settings)), source="test") == settings


@pytest.mark.spec("ST-7")
def test_a_rule_of_retention_may_wait_for_space_and_go_slowly():
    rule = {"name": "old", "older_than_days": 9, "only_above_used_percent": 85}
    (read_back,) = read(care={"retention": [{**rule, "max_studies_per_run": 3}]}).care.retention
    assert (read_back.only_above_used_percent, read_back.max_studies_per_run) == (85, 3)
    plain = {"name": "old", "unread_for_days": 9}
    (usual,) = read(care={"retention": [plain]}).care.retention
    assert (usual.only_above_used_percent, usual.max_studies_per_run) == (None, 100)
    for wrong in (0, 100, "80 %"):
        with pytest.raises(InvalidSettingsError, match="only_above_used_percent"):
            read(care={"retention": [{**rule, "only_above_used_percent": wrong}]})


def test_nothing_is_deleted_and_nobody_told_unless_somebody_says_so():
    settings = read()
    assert settings.care.retention == ()
    assert settings.alerts.mail == ()
    assert settings.care.scrub.enabled


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"care": {"retention": [{"name": "all"}]}}, "care.retention[0]"),
        ({"care": {"scrub": {"window": "25:00-06:00"}}}, "care.scrub.window"),
        ({"alerts": {"mail": [{**MAIL, "recipients": []}]}}, "alerts.mail[0].recipients"),
        ({"alerts": {"mail": [MAIL, MAIL]}}, "alerts.mail[1].name"),
        ({"alerts": {"webhooks": [{"name": "a", "url": "file:///etc/passwd"}]}}, "webhooks[0].url"),
        ({"alerts": {"webhooks": [{"name": "a", "url": "http://u:p@h/"}]}}, "webhooks[0].url"),
        ({"alerts": {"ups": "ups@host; rm"}}, "alerts.ups"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(keys: dict[str, object], where: str):
    with pytest.raises(InvalidSettingsError) as refused:
        read(**keys)
    assert where in str(refused.value)


def test_a_secret_never_leaves_and_comes_back_only_to_its_own_server():
    current = to_plain(read(alerts={"mail": [MAIL]}))
    shown = hidden(current)
    assert "correct horse" not in str(shown)
    assert HIDDEN in str(shown)
    assert revealed(shown, current) == current
    moved = to_plain(read(alerts={"mail": [{**MAIL, "password": HIDDEN, "host": "evil.example"}]}))
    assert "correct horse" not in str(revealed(moved, current))


def test_a_secret_shows_in_no_repr():
    settings = read(alerts={"mail": [MAIL]})
    assert "correct horse" not in repr(settings)
