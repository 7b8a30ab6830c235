# SPDX-License-Identifier: Apache-2.0
"""A settings document before it is understood: YAML or JSON as nodes that know their line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from scrigno.core.errors import ConfigError

MAX_DOCUMENT_CHARS: Final = 1 << 20  # thousands of devices fit; a stray disk image does not
MAX_DEPTH: Final = 16

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value; `text` is a scalar as it was written, `line` counts from 1 or is None (JSON)."""

    value: "Scalar | list[Node] | dict[str, Node]"
    text: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where, what, and what would be right."""

    path: Path
    what: str
    allowed: str = ""

    def key(self) -> str:
        """Return the path as people write it: `initial.volumes[0].path`."""
        words = ""
        for part in self.path:
            words += f"[{part}]" if isinstance(part, int) else f".{part}"
        return words.lstrip(".") or "the document"

    def sentence(self, line: int | None = None) -> str:
        """Return the problem as one line of text."""
        where = f"line {line}: " if line else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{where}{self.key()}: {self.what}{allowed}"


class InvalidSettingsError(ConfigError):
    """A settings document cannot be used; `problems` has every reason, not only the first."""

    code = "bad-configuration"

    def __init__(self, problems: Iterable[Problem], *, source: str = "", root: Node | None = None):
        """Name `source` in the text, and the line of each problem where `root` knows it."""
        self.problems = problems = tuple(problems)
        lines = [
            each.sentence(line_of(root, each.path) if root else None) for each in self.problems
        ]
        head = f"{source}: " if source else ""
        super().__init__("\n".join(f"{head}{line}" for line in lines))


def line_of(root: Node, path: Path) -> int | None:
    """Return the line of the value at `path`, or of the nearest value around it."""
    node, line = root, root.line
    for part in path:
        below: Node | None = None
        if isinstance(node.value, dict) and isinstance(part, str):
            below = node.value.get(part)
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            below = node.value[part]
        if below is None:
            break
        node, line = below, below.line or line
    return line


def from_yaml(text: str, *, source: str) -> Node:
    """Parse YAML 1.1; aliases, tags of other languages and doubled keys are refused."""
    if len(text) > MAX_DOCUMENT_CHARS:
        raise InvalidSettingsError(
            [Problem(path=(), what=f"is longer than {MAX_DOCUMENT_CHARS} characters")],
            source=source,
        )
    loader = yaml.SafeLoader(text)
    try:
        _refuse_bombs(text)
        node = loader.get_single_node()
        return _node(node, loader, ()) if node else Node(value={}, line=1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        words = f"{where}this is not valid YAML: {error.problem or error.context}"
        raise InvalidSettingsError([Problem(path=(), what=words)], source=source) from error
    except yaml.YAMLError as error:
        raise InvalidSettingsError(
            [Problem(path=(), what=f"this is not valid YAML: {error}")], source=source
        ) from error
    except _RefusedError as error:
        raise InvalidSettingsError([error.problem], source=source, root=error.near) from error
    finally:
        loader.dispose()


def from_plain(value: object) -> Node:
    """Wrap values that came as JSON."""
    if isinstance(value, Mapping):
        return Node(value={str(key): from_plain(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return Node(value=[from_plain(each) for each in value])
    if value is None or isinstance(value, str | int | float | bool):
        return Node(value=value, text="" if value is None else str(value))
    raise TypeError(f"a settings document cannot hold {type(value).__name__}")


class _RefusedError(Exception):
    """YAML that is well-formed and still not taken."""

    def __init__(self, path: Path, line: int, what: str, allowed: str) -> None:
        super().__init__(what)
        self.problem = Problem(path=path, what=f"{what}", allowed=allowed)
        self.near = Node(value=None, line=line)


def _refuse_bombs(text: str) -> None:
    """Refuse aliases, which multiply, and depth, on which the parser's time grows as a square."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError((), line, "holds an alias (*name)", "plain values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _RefusedError((), line, "is nested too deeply", f"at most {MAX_DEPTH} levels")


def _node(node: yaml.Node, loader: yaml.SafeLoader, path: Path) -> Node:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return Node(value=_scalar(node, loader, path), text=node.value, line=line)
    if isinstance(node, yaml.SequenceNode):
        items = [_node(each, loader, (*path, i)) for i, each in enumerate(node.value)]
        return Node(value=items, line=line)
    entries: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in entries or not isinstance(key_node, yaml.ScalarNode):
            key_line = key_node.start_mark.line + 1
            raise _RefusedError((*path, key), key_line, "stands here twice", "each key once")
        entries[key] = _node(value_node, loader, (*path, key))
    return Node(value=entries, line=line)


def _scalar(node: yaml.ScalarNode, loader: yaml.SafeLoader, path: Path) -> Scalar:
    try:
        value = loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        line = node.start_mark.line + 1
        raise _RefusedError(path, line, f"{node.value!r} cannot be read", "plain values") from error
    # timestamps, binary and the like: the kinds parse the text themselves
    return value if value is None or isinstance(value, str | int | float | bool) else node.value
