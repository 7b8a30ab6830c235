# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what is taken, and how a fault is told."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scrigno.settings.boot import UnreadableConfigError, json_schema, load_config, parse_config
from scrigno.settings.document import InvalidSettingsError
from scrigno.settings.schema import BootConfig, Unregistered
from scrigno.settings.shapes import is_character_set

CONFIG = Path(__file__).resolve().parents[2] / "config"
LEAST = "state_dir: /var/lib/scrigno\nstaging_dir: /var/cache/scrigno\n"


def refusal(text: str) -> str:
    with pytest.raises(InvalidSettingsError) as caught:
        parse_config(text, source="box.yaml")
    return caught.value.reason


@pytest.mark.spec("AD-6")
def test_the_sample_configuration_is_valid_and_says_what_the_defaults_are():
    sample = load_config(CONFIG / "scrigno.yaml")
    bare = parse_config(LEAST, source="bare")
    assert sample.web == bare.web
    assert sample.initial.ingest == bare.initial.ingest
    assert sample.initial.limits == bare.initial.limits
    assert sample.initial.providers[0].unregistered is Unregistered.HOLD


def test_every_commented_out_example_of_the_sample_is_valid_too():
    text = (CONFIG / "scrigno.yaml").read_text()
    text = text.replace("    users: []\n", "")
    opened = re.sub(
        r"^( *)# ((?:- \{name: backup2|users:|limits:|default_ch|max_obj|unknown).*)",
        r"\1\2",
        text,
        flags=re.M,
    )
    opened = re.sub(
        r"^( *)# ( *(?:- name: CT|ae_title|host|port|rights|max_)\S*.*)",
        r"\1\2",
        opened,
        flags=re.M,
    )
    config = parse_config(opened, source="opened")
    assert config.initial.peers[0].name == "CT ground floor"
    assert config.initial.default_character_set == "ISO_IR 100"
    assert len(config.initial.volumes) == 3


def test_the_json_schema_beside_the_sample_is_up_to_date():
    stands = json.loads((CONFIG / "scrigno.schema.json").read_text())
    assert stands == json_schema(), "write it again with `make schema`"


@pytest.mark.spec("AD-6")
def test_all_faults_are_told_at_once_with_key_line_and_what_is_allowed():
    reason = refusal(
        "state_dir: /var/lib/scrigno\n"
        "stagin_dir: /var/cache/scrigno\n"
        "web: {port: 99999}\n"
        "initial:\n"
        "  language: de\n"
        "  dicom:\n"
        "    providers:\n"
        "      - {name: A, ae_title: 'back\\slash', port: yes}\n"
    )
    lines = reason.splitlines()
    assert (
        "box.yaml: line 2: stagin_dir: is not a known key (did you mean staging_dir?)" in lines[0]
    )
    assert "staging_dir: is missing; allowed: an absolute path" in reason
    assert "line 3: web.port: '99999' is not allowed here; allowed: a whole number from 0" in reason
    assert "line 5: initial.language: 'de'" in reason
    assert "allowed: en, it, fr, ja, ko, vi" in reason
    assert "line 8: initial.dicom.providers[0].ae_title" in reason
    assert "line 8: initial.dicom.providers[0].port: 'yes'" in reason
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state_dir: [", "not valid YAML"),
        ("state_dir: /a\nstate_dir: /b\n", "line 2: state_dir: stands here twice"),
        ("- 1\n", "a list is not allowed here"),
        ("a: &x {}\nb: *x\n", "alias"),
        ("a: " + "[" * 100_000, "nested"),
        ("!!python/object/apply:os.system ['true']", "not allowed"),
        ("state_dir: relative/path\nstaging_dir: /a/../b\n", "absolute path"),
        ("x" * (2 << 20), "longer"),
    ],
)
def test_a_text_that_is_no_configuration_is_refused_in_words(text: str, words: str):
    assert words in refusal(text)


def test_a_missing_file_is_refused_in_words(tmp_path: Path):
    with pytest.raises(UnreadableConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")


def initial(volumes: str = "", providers: str = "") -> str:
    return f"{LEAST}initial:\n  volumes: [{volumes}]\n  dicom: {{providers: [{providers}]}}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (initial("{name: a, role: backup, path: /m/a}"), "no volume has the role data"),
        (
            initial("{name: a, role: data, path: /m/a}, {name: b, role: data, path: /m/b}"),
            "second data volume",
        ),
        (
            initial("{name: a, role: data, path: /m/a}, {name: b, role: backup, path: /m/a/b}"),
            "lie in one another",
        ),
        (
            initial("{name: a, role: data, path: /m/a}, {name: a, role: backup, path: /m/b}"),
            "volumes[1].name: a is used twice",
        ),
        (initial("{name: a, role: data, path: /var/lib/scrigno/d}"), "state_dir"),
        (
            initial(
                providers="{name: a, ae_title: A, port: 104}, {name: b, ae_title: B, port: 104}"
            ),
            "providers[1].port: 104 is used twice",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(text: str, words: str):
    assert words in refusal(text)


def test_providers_on_any_free_port_do_not_collide():
    text = initial(providers="{name: a, ae_title: A, port: 0}, {name: b, ae_title: B, port: 0}")
    assert len(parse_config(text, source="x").initial.providers) == 2


def test_an_ae_title_of_digits_needs_no_quotes():
    text = initial(providers="{name: 1, ae_title: 0123, port: 104}")
    assert parse_config(text, source="x").initial.providers[0].ae_title == "0123"


@pytest.mark.spec("DN-12")
@pytest.mark.parametrize(
    "term", ["", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87"]
)
def test_character_sets_of_the_standard_are_taken(term: str):
    assert is_character_set(term)


@pytest.mark.parametrize("term", ["utf-8", "ISO_IR 999", "ISO_IR 192\\ISO 2022 IR 87", "\\\\ "])
def test_other_character_sets_are_refused(term: str):
    assert not is_character_set(term)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["state_dir", "staging_dir", "web", "initial", "volumes", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_yaml_is_either_a_configuration_or_refused_in_words(value: object):
    text = yaml.safe_dump(value)
    valid = isinstance(value, dict) and {"state_dir", "staging_dir"} <= value.keys()
    if valid:
        with contextlib.suppress(InvalidSettingsError):
            assert isinstance(parse_config(text, source="any"), BootConfig)
    else:
        assert refusal(text)
