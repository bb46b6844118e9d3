"""``history.sqlite``: the tables, and what goes in and comes out; no manifest is read here.

Names, codes, hashes and messages stand once, in ``words``: a night of a thousand models takes some
60 kB. The view ``history`` has a line for each artifact and night, for whoever asks it with SQL.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from converter.model.manifest import Environment
from converter.trends.nights import Figures, Label, Median, Night

FILE = "history.sqlite"
VERSION = 1
"""Of the tables; a file of another one is set aside and made again."""

_WAIT_S = 30.0  # for another run that writes
_TABLES = """
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE artifacts (
  id INTEGER PRIMARY KEY, model TEXT NOT NULL, artifact TEXT NOT NULL, UNIQUE (model, artifact));
CREATE TABLE folders (name TEXT PRIMARY KEY, stamp TEXT NOT NULL);
CREATE TABLE runs (
  run INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, directory TEXT NOT NULL,
  started_at TEXT NOT NULL, exit_code INTEGER, counts TEXT NOT NULL, environment TEXT NOT NULL);
CREATE TABLE figures (
  run INTEGER NOT NULL, artifact INTEGER NOT NULL, status INTEGER NOT NULL,
  optional INTEGER NOT NULL, code INTEGER, message INTEGER, share REAL, max_abs REAL,
  bytes INTEGER, seconds REAL, cached INTEGER NOT NULL, sha256 INTEGER, failing_since INTEGER,
  changed INTEGER, PRIMARY KEY (run, artifact)) WITHOUT ROWID;
CREATE TABLE latencies (
  run INTEGER NOT NULL, artifact INTEGER NOT NULL, provider INTEGER NOT NULL, p50_ms REAL NOT NULL,
  low_ms REAL, high_ms REAL, PRIMARY KEY (run, artifact, provider)) WITHOUT ROWID;
CREATE VIEW history AS SELECT
  r.id AS run, r.started_at, a.model, a.artifact, s.text AS status, c.text AS code,
  m.text AS message, p.text AS provider, l.p50_ms, l.low_ms, l.high_ms, f.share, f.max_abs,
  f.bytes, f.seconds, f.cached, h.text AS sha256, b.text AS failing_since, w.text AS changed
  FROM figures f JOIN runs r USING (run) JOIN artifacts a ON a.id = f.artifact
  JOIN words s ON s.id = f.status LEFT JOIN words c ON c.id = f.code
  LEFT JOIN words m ON m.id = f.message LEFT JOIN words h ON h.id = f.sha256
  LEFT JOIN words b ON b.id = f.failing_since LEFT JOIN words w ON w.id = f.changed
  LEFT JOIN latencies l ON l.run = f.run AND l.artifact = f.artifact
  LEFT JOIN words p ON p.id = l.provider;
"""
_COLUMNS = [each.name for each in fields(Figures) if each.name != "latency"]
_WORDS = ("status", "code", "message", "sha256", "failing_since", "changed")
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT,
    # What we put in breaks no rule of our own tables.
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH,
}  # fmt: skip
# What has no code of its own: another table than ours, and text that is none.
_SAID = ("no such", "table ", "Could not decode")
_FLAGS = {0: False, 1: True}
_environment = Environment.model_validate_json
_counts = TypeAdapter(dict[str, int]).validate_json


class UnusableError(Exception):
    """The file is damaged or of another version: it has to be made again from the manifests."""


class Database:
    """One transaction on the file, which is made where there is none; without one in memory.

    Raises:
        UnusableError: see there; also while it is used.
        sqlite3.Error: it cannot be read or written, or another process holds it for too long.
    """

    def __init__(self, path: Path | None) -> None:
        self._words: dict[str, int] = {}
        # The runs of somebody else are read all the same; what is new there is not kept then.
        kept = path is not None and all(
            os.access(each, os.W_OK) for each in (path.parent, path) if each.exists()
        )
        # No transactions but our own.
        place = path if path is not None and kept else ":memory:"
        self._sql = sqlite3.connect(place, timeout=_WAIT_S, isolation_level=None)
        if path is not None and not kept and path.is_file():
            # Else SQLite would look for a journal, and make one.
            read_only = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            with closing(sqlite3.connect(read_only, uri=True)) as source:
                source.backup(self._sql)

    def __enter__(self) -> Database:
        try:
            # At once, not at the first write: two that both read first could not go on.
            self._sql.execute("BEGIN IMMEDIATE")
            self._prepare()
        except BaseException as error:
            self._sql.close()
            _judge(error)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._sql.execute("COMMIT")
            # Else what was begun is undone where it is closed.
        finally:
            self._sql.close()
        _judge(error)

    def _prepare(self) -> None:
        (version,) = self._sql.execute("PRAGMA user_version").fetchone()
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _TABLES.split(";\n"):
                self._sql.execute(statement)
            self._sql.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise UnusableError(f"it is of version {version} of its tables, this one is {VERSION}")

    def stamps(self) -> dict[str, str]:
        """The folders that were looked at, and the state of the manifest that each had."""
        return dict(self._sql.execute("SELECT name, stamp FROM folders"))

    def looked_at(self, folder: str, stamp: str) -> None:
        """Remember that all is taken from a folder that is to be had of it."""
        self._sql.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (folder, stamp))

    def put(self, night: Night, rows: Iterable[tuple[Label, Figures]]) -> None:
        """Take a night in; one of the same run id is replaced."""
        found = self._sql.execute("SELECT run FROM runs WHERE id = ?", (night.id,)).fetchone()
        for table in ("runs", "figures", "latencies") if found else ():
            self._sql.execute(f"DELETE FROM {table} WHERE run = ?", found)
        values = (
            night.id,
            night.directory,
            night.started_at,
            night.exit_code,
            json.dumps(night.counts),
            night.environment.model_dump_json(),
        )
        run = self._sql.execute(
            "INSERT INTO runs (id, directory, started_at, exit_code, counts, environment) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            values,
        ).lastrowid
        for label, figures in rows:
            self._put(run, self._artifact(label), figures)

    def _put(self, run: int | None, artifact: int, figures: Figures) -> None:
        values = [
            self._word(getattr(figures, name)) if name in _WORDS else getattr(figures, name)
            for name in _COLUMNS
        ]
        places = ", ".join("?" * (len(values) + 2))
        names = ", ".join(_COLUMNS)
        self._sql.execute(
            f"INSERT INTO figures (run, artifact, {names}) VALUES ({places})",
            (run, artifact, *values),
        )
        for provider, median in figures.latency.items():
            self._sql.execute(
                "INSERT INTO latencies VALUES (?, ?, ?, ?, ?, ?)",
                (run, artifact, self._word(provider), median.p50, median.low, median.high),
            )

    def _word(self, text: str | None) -> int | None:
        if text is None:
            return None
        if text not in self._words:
            self._sql.execute("INSERT OR IGNORE INTO words (text) VALUES (?)", (text,))
            found = self._sql.execute("SELECT id FROM words WHERE text = ?", (text,))
            (self._words[text],) = found.fetchone()
        return self._words[text]

    def _artifact(self, label: Label) -> int:
        sought = "SELECT id FROM artifacts WHERE model = ? AND artifact = ?"
        if (found := self._sql.execute(sought, label).fetchone()) is None:
            made = self._sql.execute("INSERT INTO artifacts (model, artifact) VALUES (?, ?)", label)
            return made.lastrowid or 0
        return int(found[0])

    def keep(self) -> None:
        """Make what was put in so far permanent; others may write then, while this one reads."""
        self._sql.execute("COMMIT")
        self._sql.execute("BEGIN")

    def nights(self, most: int) -> list[Night]:
        """The last of them, the oldest first.

        Raises:
            UnusableError: what is written of one cannot be read.
        """
        found = self._sql.execute(
            "SELECT id, directory, started_at, exit_code, counts, environment FROM runs "
            "ORDER BY started_at DESC, run DESC LIMIT ?",
            (min(most, sys.maxsize),),  # SQLite counts no further
        )
        with _validating("a night"):
            nights = [
                Night(
                    id=run,
                    directory=directory,
                    started_at=started_at,
                    exit_code=exit_code,
                    counts=_counts(counts),
                    environment=_environment(ran_on),
                )
                for run, directory, started_at, exit_code, counts, ran_on in found
            ]
        return nights[::-1]

    def number(self) -> int:
        """How many nights there are."""
        return int(self._sql.execute("SELECT count(*) FROM runs").fetchone()[0])

    def strips(self, nights: Sequence[Night]) -> Iterator[tuple[Label, list[Figures | None]]]:
        """For each artifact its figures in each of these nights; models in the order of names.

        Raises:
            UnusableError: what is written of one cannot be read.
        """
        words = {None: None, **dict(self._sql.execute("SELECT id, text FROM words"))}
        place = {night.id: at for at, night in enumerate(nights)}
        runs = self._sql.execute("SELECT run, id FROM runs").fetchall()
        at = {run: place[name] for run, name in runs if name in place}
        among = ", ".join(map(str, at))
        latencies = self._latencies(among, words)
        columns = ", ".join(f"f.{name}" for name in _COLUMNS)
        figures = self._sql.execute(
            f"SELECT a.model, a.artifact, f.run, {columns} "
            f"FROM figures f JOIN artifacts a ON a.id = f.artifact WHERE f.run IN ({among}) "
            "ORDER BY a.model, f.artifact"
        )
        worded = [_COLUMNS.index(name) for name in _WORDS]
        flags = [_COLUMNS.index(name) for name in ("optional", "cached")]
        for label, group in groupby(figures, key=itemgetter(0, 1)):
            strip: list[Figures | None] = [None] * len(nights)
            # Here alone: what is raised while a strip is used is not about the file.
            with _validating("a figure"):
                _names(*label)
                timed = latencies.get(label, {})
                for _, _, run, *values in group:
                    for column in worded:
                        values[column] = words[values[column]]
                    for column in flags:
                        values[column] = _FLAGS[values[column]]
                    figure = dict(zip(_COLUMNS, values, strict=True))
                    strip[at[run]] = Figures(**figure, latency=timed.get(run, {}))
            yield label, strip

    def _latencies(
        self, among: str, words: dict[int | None, str | None]
    ) -> dict[Label, dict[int, dict[str, Median]]]:
        found: dict[Label, dict[int, dict[str, Median]]] = {}
        rows = self._sql.execute(
            "SELECT a.model, a.artifact, l.run, l.provider, l.p50_ms, l.low_ms, l.high_ms "
            "FROM latencies l JOIN artifacts a ON a.id = l.artifact "
            f"WHERE l.run IN ({among}) ORDER BY l.run, l.artifact, l.provider"
        )
        with _validating("a latency"):
            for model, artifact, run, provider, p50, low, high in rows:
                runs = found.setdefault((model, artifact), {})
                (name,) = _names(words[provider])
                runs.setdefault(run, {})[name] = Median(p50=p50, low=low, high=high)
        return found


def _names(*found: object) -> list[str]:
    """Themselves.

    Raises:
        ValueError: one is no name: SQLite keeps anything in any column.
    """
    names = [each for each in found if isinstance(each, str) and each]
    if len(names) < len(found):
        raise ValueError("a name in it is no text")
    return names


@contextmanager
def _validating(what: str) -> Iterator[None]:
    """Within it what is not as it was put in is damage.

    Raises:
        UnusableError: it was not.
    """
    try:
        yield
    except KeyError as error:
        raise UnusableError(f"{what} in it cannot be read ({error} stands for nothing)") from error
    except ValueError as error:  # what pydantic raises is one
        raise UnusableError(f"{what} in it cannot be read ({_first(error)})") from error


def _first(error: ValueError) -> str:
    """What is wrong, in a line."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors()[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else found["msg"]


def _judge(error: BaseException | None) -> None:
    """Raise what says that the file has to be made again.

    Raises:
        UnusableError: the error is one of its content.
    """
    if not isinstance(error, sqlite3.DatabaseError):
        return
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more of the same
    if code in _DAMAGED or str(error).startswith(_SAID):
        raise UnusableError(f"it is damaged ({error})") from error
