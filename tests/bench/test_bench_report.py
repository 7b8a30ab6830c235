# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the benchmark report: a wrong ratio would be believed."""

from __future__ import annotations

import pytest
from bench.report import AtMost, Either, Faster, Row, Within, paired_ratio, table


def test_a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians() -> None:
    values = {"scrigno": [1.0, 2.0, 4.0], "orthanc": [10.0, 10.0, 4.0]}
    assert paired_ratio(values, over="orthanc", under="scrigno") == pytest.approx(5.0)


def test_faster_is_met_when_the_peer_takes_that_many_times_as_long() -> None:
    values = {"scrigno": [1.0], "orthanc": [3.0]}
    assert Faster("orthanc", 3).judge(values).met is True
    assert Faster("orthanc", 3.1).judge(values).met is False


def test_within_is_met_when_scrigno_takes_at_most_that_many_times_as_long() -> None:
    values = {"scrigno": [1.5], "storescp": [1.0]}
    assert Within("storescp", 1.5).judge(values).met is True
    assert Within("storescp", 1.4).judge(values).met is False


def test_a_budget_without_its_peer_is_neither_met_nor_missed() -> None:
    assert Faster("orthanc", 3).judge({"scrigno": [1.0]}).met is None
    assert AtMost(1, "s").judge({"orthanc": [1.0]}).met is None


def test_one_of_two_budgets_is_enough_and_none_measured_is_not_measured() -> None:
    either = Either(Within("disk x2", 1.25), Within("storescp", 1.25))
    assert either.judge({"scrigno": [2.0], "disk x2": [1.0], "storescp": [1.9]}).met is True
    assert either.judge({"scrigno": [2.0], "disk x2": [1.0]}).met is False
    assert either.judge({"scrigno": [2.0]}).met is None


def test_the_table_says_what_is_met_what_is_not_and_what_was_not_measured() -> None:
    row = Row(
        group="C-STORE",
        name="300 CT",
        unit="s",
        values={"scrigno": [2.0], "orthanc": [4.0]},
        budgets=[Faster("orthanc", 3), Within("storescp", 1.5), AtMost(2, "s")],
        notes=["orthanc: said something"],
    )
    text = table([row])
    assert "4 (2x)" in text
    assert ">= 3 x orthanc: 2 x, NOT MET" in text
    assert "<= 1.5 x the time of storescp: not measured" in text
    assert "<= 2 s: 2 s, met" in text
    assert "note: orthanc: said something" in text
