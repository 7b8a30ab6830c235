# SPDX-License-Identifier: Apache-2.0
"""Rules of retention as the settings say them are the rules that run."""

from types import SimpleNamespace

import pytest

from scrigno.app.retention_parts import rules_of
from scrigno.settings.care import CareSettings, RetentionRule
from scrigno.settings.schema import Settings


@pytest.mark.spec("ST-7")
def test_every_word_of_a_rule_reaches_what_runs() -> None:
    said = RetentionRule(
        name="old",
        enabled=False,
        older_than_days=10,
        unread_for_days=20,
        modalities=("CR",),
        copies_elsewhere=3,
        max_studies_per_day=40,
        max_studies_per_run=5,
        only_above_used_percent=85,
    )
    settings = Settings(care=CareSettings(retention=(said, RetentionRule(name="usual"))))
    runs, usual = rules_of(SimpleNamespace(current=settings))  # type: ignore[arg-type]
    assert (runs.max_studies_per_run, runs.max_studies_per_day) == (5, 40)
    assert runs.only_above_used == 0.85
    for name in ("name", "enabled", "older_than_days", "unread_for_days", "modalities"):
        assert getattr(runs, name) == getattr(said, name)
    assert runs.copies_elsewhere == 3
    assert usual.only_above_used is None
