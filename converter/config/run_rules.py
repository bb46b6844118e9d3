"""Rules of the keys that are about the run as a whole: what to compare with, what to call."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from converter.config.variant_rules import choice
from converter.layout import signing, trust
from converter.model.batch import LATEST, BatchSpec, Command, PublishSpec, SignSpec
from converter.model.errors import Problem
from converter.plugins import loader
from converter.storage import location
from converter.storage.location import Location


def check(spec: BatchSpec) -> list[Problem]:
    """Paths that must be there, and commands that may be called."""
    problems = _baseline(spec.baseline) + _store(spec.store.path) + _published(spec)
    problems += [*_nodes(spec), *_unshared(spec), *_writable(spec)]
    for key in ("on_failure", "on_regression"):
        command = getattr(spec, key)
        if command is not None:
            problems += _command(key, command)
    return problems


def _baseline(stated: str | None) -> list[Problem]:
    # `latest` may lead to nothing: a first run has no baseline, and that is no error.
    # Not `Path.exists`, which raises where a name is too long to be there.
    if stated is None or stated == LATEST or os.path.exists(stated):
        return []
    hint = "Name a run directory or a manifest, or write baseline=latest."
    return [Problem("baseline", f"there is no {Path(stated).absolute()}.", hint)]


def _store(path: str) -> list[Problem]:
    try:
        location.parse(path)
    except ValueError as error:
        return [Problem("store.path", f"{location.masked(path)} {error}.")]
    return []


def _nodes(spec: BatchSpec) -> list[Problem]:
    executor = loader.found("executors").get(spec.executor.name)
    if not spec.benchmark.nodes or executor is None or hasattr(executor.load(), "create_alone"):
        return []
    message = f"executor={spec.executor.name} takes latencies on this machine."
    return [Problem("benchmark.nodes", message, "Choose an executor of several nodes, or omit it.")]


def _unshared(spec: BatchSpec) -> list[Problem]:
    """Machines that share no folder with this one get what they need by the store."""
    executor = loader.found("executors").get(spec.executor.name)
    if spec.executor.own_options.get("shared") is not False or executor is None:
        return []
    if not hasattr(executor.load(), "EXCHANGES"):
        message = (
            f"found false; executor={spec.executor.name} needs a folder that all machines share."
        )
        return [Problem("executor.shared", message, "Leave it out, or choose executor=ray.")]
    if not spec.store.use:
        message = "found false, but with executor.shared=false files go to the nodes by the store."
        return [Problem("store.use", message, "Leave it out.")]
    if not location.is_url(spec.store.path):
        message = f"{spec.store.path} is a folder, and with executor.shared=false nodes have none."
        hint = "Write store.path=s3://BUCKET/PREFIX, which this machine and all nodes reach."
        return [Problem("store.path", message, hint)]
    return []


def _writable(spec: BatchSpec) -> Iterator[Problem]:
    """Of what is not there no kernel can say that it may be written; the root is all there is."""
    executor = loader.found("executors").get(spec.executor.name)
    # Nodes have folders that this machine lacks.
    if executor is None or getattr(executor.load(), "SANDBOX", None) == "nodes":
        return
    for index, path in enumerate(spec.executor.writable):
        if os.path.realpath(path) == "/":
            what = f"{path} is the whole machine."
            hint = "Name the folders, or write executor.sandbox=off."
            yield Problem(f"executor.writable.{index}", what, hint)
        elif not os.path.exists(path):
            what = f"there is no {os.path.abspath(path)}."
            yield Problem(f"executor.writable.{index}", what, "Make it, or correct the path.")


def targets(spec: BatchSpec) -> Iterator[tuple[str, PublishSpec]]:
    """Each folder that is published to, with the key that states it."""
    several = len(spec.publish_to) > 1
    for index, target in enumerate(spec.publish_to):
        yield f"publish_to.{index}" if several else "publish_to", target


def _published(spec: BatchSpec) -> list[Problem]:
    problems = []
    places = _of_store(spec)
    for key, target in targets(spec):
        if target.layout is not None:
            problems += choice(f"{key}.layout", target.layout, loader.names("layouts"))
        try:
            place = location.parse(target.path)
        except ValueError as error:
            what = f"{location.masked(target.path)} {error}."
            problems.append(Problem(f"{key}.path", what))
            continue
        if isinstance(place, Path):
            # Behind links, and without `..`: what is one folder must not look like two.
            place = Path(os.path.realpath(place))
        problems += [Problem(f"{key}.path", *said) for said in _place(place, places)]
        places.setdefault(place, key)
        if target.sign is not None:
            problems += _key(f"{key}.sign", target.sign)
    return problems


def _of_store(spec: BatchSpec) -> dict[Location, str]:
    """The place of the store, which may have nothing else in it: `store gc` removes files."""
    try:
        place = location.parse(spec.store.path) if spec.store.use else None
    except ValueError:  # `_store` says it
        return {}
    if isinstance(place, Path):
        place = Path(os.path.realpath(place))
    return {place: "store.path"} if place is not None else {}


def _place(place: Location, others: Mapping[Location, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with a folder to publish to, and what to do."""
    hint = "Give each a folder of its own."
    if place in others:
        yield f"is that of {others[place]} too.", hint
    for other, key in others.items():
        if place != other and (place in other.parents or other in place.parents):
            inside = "inside of" if other in place.parents else "around"
            yield f"is {inside} the folder of {key}.", f"{hint[:-1]}, beside the other."
    if not isinstance(place, Path):
        return
    # Without a folder nothing could be published at the end of the run.
    there = next(path for path in (place, *place.parents) if os.path.lexists(path))
    if not there.is_dir():
        yield f"{there} is there, and is no folder.", "Name a folder, or move the file away."


def _key(key: str, sign: SignSpec) -> list[Problem]:
    """Whether a set can be signed at the end of a run that may take hours."""
    if why := signing.missing():
        return [Problem(key, f"{why}.", f"{signing.INSTALL}.")]
    try:
        signing.signer(Path(sign.private_key).absolute())
    except ValueError as error:
        return [Problem(f"{key}.private_key", f"{error}.")]
    except OSError as error:
        what = f"{error.strerror or error}: {Path(sign.private_key).absolute()}"
        return [Problem(f"{key}.private_key", f"{what}.")]
    return []


def _command(key: str, command: Command) -> list[Problem]:
    """A configuration may come from anybody: what it calls must be trusted, as model code is."""
    import shutil  # slow to import, and few configurations name a command

    try:
        line = words(command)
    except ValueError as error:
        return [Problem(key, f"{error} in '{command}'.", "Write it as a list: [PROGRAM, WORD].")]
    if not line:
        return [Problem(key, "names no program.")]
    # Looked up as it will be when it is called: trust is about the file that runs, not about its
    # name.
    program = shutil.which(line[0])
    if program is None:
        return [Problem(key, f"there is no program '{line[0]}'.", "Give its path.")]
    entries = trust.parse(os.environ.get(trust.VARIABLE, ""), Path.cwd())
    # `holds_file` follows links, so that a link in a trusted folder cannot call something else.
    if trust.holds_file(program, entries):
        return []
    program = str(Path(program).absolute())
    export = trust.line_to_export(program, entries)
    return [Problem(key, f"{program} is not trusted to run.", f"If you trust it: {export}")]


def words(command: Command) -> list[str]:
    """A command as a list; no shell reads it. Raises ``ValueError`` for a quote without its end."""
    return shlex.split(command) if isinstance(command, str) else list(command)
