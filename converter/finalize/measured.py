"""What the index says of a model for people who choose one; no set covers it."""

from __future__ import annotations

from converter.display import summary
from converter.finalize.zoo_index import About, Measured, Timed
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.source import without_folders


def about(row: ArtifactRow) -> About:
    """What a model is.

    Args:
        row: of its ONNX file.
    """
    assert row.onnx is not None, "the first artifact of a model is an ONNX file"
    weights = row.request.weights
    return About(
        task=_task(row.source),
        tags=row.tags,
        source=without_folders(row.source),
        weights=weights.name or weights.kind,
        weights_sha256=weights.sha256,
        weights_origin=weights.published,
        parameters=row.onnx.parameters,
        ops=dict(sorted(row.onnx.ops.items(), key=lambda item: (-item[1], item[0]))),
    )


def measured(row: ArtifactRow, manifest: Manifest, before: Measured | None) -> Measured:
    """How exact and how fast an artifact is.

    Args:
        before: what the index says of the same files; their latency stays where tonight took none.
    """
    quality = row.accuracy
    timed = [
        Timed(
            provider=one.provider,
            p50_ms=one.p50_ms,
            threads=one.threads,
            shapes=one.shapes,
            machine=one.node.cpu if one.node is not None else manifest.environment.cpu,
            at=manifest.run.started_at,
        )
        for one in row.latency
        if one.status == "measured" and one.p50_ms is not None
    ]
    return Measured(
        cases=len(row.verify.cases),
        max_abs=summary.max_abs(row),
        sqnr_db=quality.sqnr_db if quality is not None else None,
        latency=timed or (before.latency if before is not None else []),
    )


def _task(source: str) -> str | None:
    import registry  # of the models that the converter has; a source of another kind has no task

    entry = registry.find(source)
    return entry.task if entry is not None else None
