"""Whether two rows were asked for the same.

A request is completed by the worker: which device ``auto`` is, the hash of a checkpoint. A model
that was skipped or failed early has a request without that, and it is the same request.
"""

from __future__ import annotations

from converter.model.manifest import ArtifactRow, Request, WeightsInfo


def same(before: ArtifactRow, after: ArtifactRow) -> bool:
    """Whether the configuration of a model is what it was, as far as the rows tell."""
    old, new = before.request, after.request
    return (
        before.source == after.source
        and _stated(old) == _stated(new)
        and same_device(old, new)
        and same_weights(old.weights, new.weights)
    )


def same_device(old: Request, new: Request) -> bool:
    return old.device == new.device or "auto" in (old.device, new.device)


def same_weights(old: WeightsInfo, new: WeightsInfo) -> bool:
    # None is the hash of weights that no worker came to read: it says nothing against the other.
    hashes = {old.sha256, new.sha256} - {None}
    places = [(weights.kind, weights.name, weights.path) for weights in (old, new)]
    return places[0] == places[1] and len(hashes) < 2


def _stated(request: Request) -> dict[str, object]:
    # `conditioned` is a worker's finding; the other two are compared by rules of their own, above.
    return request.model_dump(exclude={"device", "weights", "conditioned"})
