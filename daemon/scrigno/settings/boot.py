# SPDX-License-Identifier: Apache-2.0
"""The configuration file: read once at start, refused as a whole with every reason at once."""

from pathlib import Path
from typing import Any

from scrigno.core.errors import ConfigError

from .document import InvalidSettingsError, Node, Problem, from_yaml
from .kinds import BAD, Group
from .rules import boot_problems, problems_of
from .schema import BootConfig, Settings
from .shapes import BOOT, SETTINGS


class UnreadableConfigError(ConfigError):
    """The configuration file is not there or cannot be read."""

    code = "configuration-unreadable"


def load_config(path: Path) -> BootConfig:
    """Read the configuration file. Blocking; for the start of the process.

    Raises `InvalidSettingsError` that names key, line and what is allowed for every fault in it,
    and `UnreadableConfigError` when there is no text to read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableConfigError(
            f"{path}: the configuration cannot be read: {error.strerror}.",
            next_step="Give the path of the configuration with --config.",
        ) from error
    except UnicodeDecodeError as error:
        raise UnreadableConfigError(f"{path}: the configuration is not UTF-8 text.") from error
    return parse_config(text, source=str(path))


def parse_config(text: str, *, source: str) -> BootConfig:
    """Return the configuration that `text` says, or raise `InvalidSettingsError`."""
    root = from_yaml(text, source=source)
    config: BootConfig = _read(BOOT, root, source)
    problems = boot_problems(config.state_dir, config.staging_dir, config.initial)
    for each in problems_of(config.initial):
        problems.append(Problem(path=("initial", *each.path), what=each.what, allowed=each.allowed))
    if problems:
        raise InvalidSettingsError(problems, source=source, root=root)
    return config


def read_settings(root: Node, *, source: str) -> Settings:
    """Return the settings a document says, or raise `InvalidSettingsError`."""
    settings: Settings = _read(SETTINGS, root, source)
    problems = problems_of(settings)
    if problems:
        raise InvalidSettingsError(problems, source=source, root=root)
    return settings


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file, for editors and for the documents."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scrigno configuration",
        **BOOT.json_schema(),
    }


def _read(shape: Group, root: Node, source: str) -> Any:
    problems: list[Problem] = []
    value = shape.read(root, (), problems)
    if problems or value is BAD:
        raise InvalidSettingsError(problems, source=source, root=root)
    return value
