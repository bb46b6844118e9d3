"""Nights of an experiment made by hand, with all that can happen to a model in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from converter.layout import runfiles
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import CaseCheck, OutputCheck, VerifyRecord
from tests.manifests import failed, fp16, manifest_of, ok, timed

MONTH = "2026-11-{:02}"
_UPGRADE, _RUNTIME = 12, 22
_ROLL = "aten::roll has no ONNX form at opset 17"


def leave(home: Path, models: int, nights: int = 30) -> None:
    """Write their manifests into the folder of the experiment."""
    for day in range(31 - nights, 31):
        folder = home / f"{MONTH.format(day)}_02-00-00"
        folder.mkdir(parents=True)
        runfiles.write(night(day, models), folder)
        if day > 20:  # `keep` has removed the others
            (folder / "report.html").write_text("<!doctype html><title>a report</title>")


def night(day: int, models: int) -> Manifest:
    """That of a day of November."""
    noise = random.Random(day)
    packages = {
        "torch": "2.15.0" if day >= _UPGRADE else "2.14.0",
        "onnxruntime": "1.31.1" if day >= _RUNTIME else "1.31.0",
        "onnx": "1.23.2",
    }
    rows = [row for number in range(models) for row in _model(number, day, noise)]
    wrong = any(row.status != "ok" for row in rows)
    made = manifest_of(
        *rows,
        id=f"202611{day:02}T020000Z-{day:06x}",
        started_at=f"{MONTH.format(day)}T02:00:00.000Z",
        finished_at=f"{MONTH.format(day)}T03:02:05.000Z",
        exit_code=int(wrong),
    )
    ran_on = made.environment.model_copy(update={"packages": packages})
    return made.model_copy(update={"environment": ran_on})


def _model(number: int, day: int, noise: random.Random) -> Iterator[ArtifactRow]:
    name = f"model_{number:04}"
    if number % 150 == 2 and day < 25:
        return  # new then
    if number % 150 == 4 and day > 27:
        return  # left the list
    if (row := _failure(name, number, day)) is not None:
        yield row
        return
    slower = 1.35 if number % 97 == 3 and day >= _RUNTIME else 1.0
    p50 = (1 + number % 90) * slower * noise.gauss(1, 0.02)
    latency = [timed("cpu", p50, ci95_ms=[p50 * 0.99, p50 * 1.01])]
    if number % 3 == 0:
        latency.append(timed("cuda", p50 / 8))
    error = 1e-6 * (1 + number % 7) * (3 if number % 61 == 5 and day >= _UPGRADE else 1)
    size = 1_000_000 * (1 + number % 40) + 200_000 * (number % 83 == 6 and day >= 17)
    cached = day % 12 != 0 and day > 1
    row = ok(name, size=size, latency=latency, cached=cached, verify=_verified(error))
    yield row
    if number % 10 == 0:
        yield fp16(row)


def _failure(name: str, number: int, day: int) -> ArtifactRow | None:
    if number % 50 == 1 and day >= _UPGRADE:
        since = f"{MONTH.format(_UPGRADE)}T02:00:00.000Z"
        return failed(name, message=f"{_ROLL} (blocks.{number}.attn)", failing_since=since)
    if number % 70 == 9 and 5 <= day < 8:
        return failed(name, status="timeout", failing_since=f"{MONTH.format(5)}T02:00:00.000Z")
    if number % 113 == 7 and day == 30:
        since = f"{MONTH.format(30)}T02:00:00.000Z"
        return failed(name, status="crashed", message="killed by SIGSEGV", failing_since=since)
    return None


def _verified(error: float) -> VerifyRecord:
    output = OutputCheck(
        name="scores",
        shape=[1, 10],
        dtype="float32",
        max_abs=error,
        atol=2e-5,
        rtol=2e-5,
        passed=True,
    )
    case = CaseCheck(label="traced", shapes={}, provider="cpu", outputs=[output])
    return VerifyRecord(status="passed", cases=[case])
