"""Configuration files, read strictly: what YAML would silently misread is refused.

``check`` makes one pass over the events of a file, before anything is built from them, so
that neither a typo nor an alias that multiplies itself gets further. ``install`` puts it
before Hydra's reading of every file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from converter.model.errors import ConfigError, Problem

MAX_BYTES = 32 << 20  # of one file: 10,000 models take 5 MB
MAX_DEPTH = 50
MAX_DIGITS = 400  # more than any float has
MAX_ALIASED_NODES = 10_000
"""How many nodes the aliases of one file may add; 1e5 take Hydra ten seconds."""

# Parsing with libyaml is ten times as fast; wheels of PyYAML have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What files held when they were read: each point of a sweep reads all of them anew.
_READ: dict[tuple[Path, bytes], tuple[Any, dict[str, str | None]]] = {}
# Of the files of these groups that have no package line, what a composition has read: their keys
# would go under the name of the group, which no run has.
_GROUPS = {"experiment": "_global_", "model": "models.{name}"}
_UNPACKAGED: dict[Path, tuple[str, str]] = {}
_SET = "tag:yaml.org,2002:set"
# What YAML 1.1 reads in silence: 012 is 10, 1:30 is 90, 1e400 is infinity.
_NUMBER = re.compile(r"[-+]?[0-9_]+")
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+")


def too_long(digits: int) -> str:
    """What is said of a number that nothing here reads."""
    return f"a number of {digits} digits; expected {MAX_DIGITS} at most"


def check(data: bytes, name: str) -> None:
    """Refuse the bytes of a file that is not one plain, finite, unambiguous mapping.

    Raises:
        ConfigError: all problems up to the first that stops the parser, each with file:line.
    """
    scan = _Scan(name)
    if len(data) > MAX_BYTES:
        said = f"has {len(data) >> 20} MiB; expected {MAX_BYTES >> 20} at most"
        raise ConfigError(Problem(name, said, "Put models into several files."))
    # By itself: a NUL is valid UTF-8, and decoding would let it pass.
    if b"\0" in data:
        raise ConfigError(Problem(name, "contains a NUL byte; a text file is expected"))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            Problem(f"{name}:{line}", "is not UTF-8", "Save the file as UTF-8.")
        ) from None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            scan.take(event)
    except yaml.YAMLError as error:
        scan.problems.append(syntax_problem(error, name))
    if scan.roots == 0 and not scan.problems:
        scan.problems.append(Problem(name, "is empty; a mapping is expected", "Write {} for none."))
    if scan.problems:
        raise ConfigError(scan.problems)


def syntax_problem(error: yaml.YAMLError, name: str) -> Problem:
    """Word what PyYAML found, with file and line."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        return Problem(where, f"not valid YAML: {error.problem or error.context}")
    return Problem(name, f"not valid YAML: {str(error).splitlines()[0]}")


@dataclass
class _Open:
    """A collection whose end has not come; ``nodes`` counts itself and all inside."""

    mapping: bool
    anchor: str | None
    nodes: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


@dataclass
class _Scan:
    """The state of one pass."""

    name: str
    problems: list[Problem] = field(default_factory=list)
    roots: int = 0
    added: int = 0
    stack: list[_Open] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self.stack.pop()
            self._node(done.nodes, done.anchor)

    def _refuse(self, event: yaml.Event, message: str, hint: str = "") -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        where = f"{self.name}:{line}"
        self.problems.append(Problem(where, message, hint))

    def _node(self, nodes: int, anchor: str | None) -> None:
        """A node is complete: count it into its parent."""
        if anchor:
            # Only now that it is complete: an alias inside of its own anchor finds no size.
            self.sizes[anchor] = nodes
        if self.stack:
            self.stack[-1].nodes += nodes
            self.stack[-1].children += 1

    def _root(self, event: yaml.Event) -> None:
        if self.stack:
            return
        self.roots += 1
        if self.roots > 1:
            self._refuse(event, "a second document; a file holds one mapping")
        elif not isinstance(event, yaml.MappingStartEvent) or event.tag == _SET:
            kind = "a list" if isinstance(event, yaml.SequenceStartEvent) else "a single value"
            kind = "a set (!!set)" if getattr(event, "tag", None) == _SET else kind
            self._refuse(event, f"found {kind} at the root; a mapping is expected")

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._root(event)
        if len(self.stack) >= MAX_DEPTH:
            self._refuse(event, f"nested deeper than the limit of {MAX_DEPTH} levels")
            # Now, not at the end: going on is what the limit is there to prevent.
            raise ConfigError(self.problems)
        self.stack.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._root(event)
        parent = self.stack[-1] if self.stack else None
        # Keys and values take turns, so that an even count is that of a key.
        if parent and parent.mapping and parent.children % 2 == 0:
            if event.value in parent.keys:
                self._refuse(event, f"duplicate key '{event.value}'", "Remove one of the two.")
            parent.keys.add(event.value)
        # Plain scalars only: what is quoted is text.
        if event.implicit[0] and _NUMBER.fullmatch(event.value) and len(event.value) > MAX_DIGITS:
            self._refuse(event, too_long(len(event.value)))
        elif event.implicit[0] and (reading := _misread(event.value)):
            self._refuse(event, f"{event.value} {reading};", f'quote it: "{event.value}".')
        self._node(1, event.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        self._root(event)
        size = self.sizes.get(event.anchor or "")
        # Also an alias inside of its own anchor, which would never come to an end.
        if size is None:
            self._refuse(event, f"the alias *{event.anchor} has no complete anchor before it")
            size = 1
        # Counted with all that the anchor's own aliases add, so that nested ones multiply here as
        # well.
        self.added += size
        if self.added > MAX_ALIASED_NODES:
            limit = f"the limit of {MAX_ALIASED_NODES} nodes"
            self._refuse(event, f"aliases expand to more than {limit}")
            raise ConfigError(self.problems)
        self._node(size, None)


def _misread(value: str) -> str:
    """What YAML 1.1 would make of a plain scalar that people read otherwise."""
    if _OCTAL.fullmatch(value):
        return "would be read as an octal number, or as text"
    if _SEXAGESIMAL.fullmatch(value):
        return "would be read as a number to base 60"
    if _EXPONENT.fullmatch(value) and float(value.replace("_", "")) in (
        float("inf"),
        -float("inf"),
    ):
        return "would be read as infinity"
    return ""


def install() -> None:
    """Make Hydra read every configuration file through ``check``.

    Hydra 1.3 has no public way to replace the source of ``file://``: its registry keeps the
    first class of a scheme. Call it once Hydra's plugins are registered.
    """
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.plugins.config_source import ConfigResult, ConfigSource

    from converter.config import nodes

    _UNPACKAGED.clear()
    loader = _omegaconf_loader()

    class StrictConfigSource(FileConfigSource):
        def load_config(self, config_path: str) -> ConfigResult:
            path = Path(self.path, self._normalize_file_name(config_path))
            if not path.is_file():
                # Hydra's to tell: it lists what there is.
                return super().load_config(config_path)
            data = path.read_bytes()
            # With the content: a file may be edited between two points of a sweep.
            key = path, data
            if key not in _READ:
                check(data, _shown(path))
                text = data.decode()
                try:
                    values = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
                except yaml.YAMLError as error:  # an unknown tag: seen only when values are built
                    raise ConfigError(syntax_problem(error, _shown(path))) from error
                _read_off(values.get("defaults"))
                # Of as much as Hydra looks at.
                _READ[key] = values, ConfigSource._get_header_dict(text[:512])
            values, header = _READ[key]
            _note_package(path, config_path, header)
            # Made anew each time: Hydra takes the defaults list out of what it was given.
            config = nodes.of(values)
            return ConfigResult(
                provider=self.provider,
                path=f"{self.scheme()}://{self.path}",
                config=config,
                header=dict(header),
            )

    SourcesRegistry.instance().types["file"] = StrictConfigSource


def _omegaconf_loader() -> Any:
    """OmegaConf's loader, which knows other numbers than YAML 1.1 does, on top of libyaml."""
    from omegaconf._utils import get_yaml_loader

    slow = get_yaml_loader()
    if _LOADER is yaml.SafeLoader:
        return slow

    # Without its look for duplicate keys: `check` has refused those.
    class Loader(_LOADER):  # type: ignore[misc, valid-type]
        yaml_implicit_resolvers = slow.yaml_implicit_resolvers
        yaml_constructors = slow.yaml_constructors

    return Loader


def _note_package(path: Path, config_path: str, header: Mapping[str, str | None]) -> None:
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    if group in _GROUPS and name and header.get("package") is None:
        package = _GROUPS[group].format(name=name.rpartition("/")[2])
        _UNPACKAGED[path] = group, package


def without_package(keys: Iterable[str]) -> list[Problem]:
    """The files that put their keys where no run looks, for want of a package line.

    Args:
        keys: of the configuration that was composed of them.
    """
    found = set(keys) & _GROUPS.keys()
    return [
        Problem(
            _shown(path),
            f"has no `# @package` line, so that Hydra puts its keys under `{group}`.",
            f"Add as its first line: # @package {package}",
        )
        for path, (group, package) in _UNPACKAGED.items()
        if group in found or ("experiment" in found and group == "model")
    ]


def last_read(name: str) -> tuple[str, Any]:
    """A file as it is shown, and the plain values that it holds.

    Args:
        name: as Hydra calls it: ``experiment/zoo``.
    """
    for path, data in reversed(_READ):
        if path.as_posix().endswith(f"/{name}.yaml"):
            return _shown(path), yaml.load(data, Loader=_LOADER)  # noqa: S506 - a safe loader
    return f"{name}.yaml", None


def _read_off(defaults: Any) -> None:
    """In a defaults list, YAML reads an unquoted ``off`` as false: take it for the choice."""
    for item in defaults or []:
        for key, value in item.items() if isinstance(item, MutableMapping) else ():
            if value is False:
                item[key] = "off"


def _shown(path: Path) -> str:
    """A path as short as it can be said where the command was started."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
