"""Latency between runs: which files await phase 2, and which figures of the store still count."""

from __future__ import annotations

from converter.batch import BenchmarkSpec
from converter.job import JobResult, Latency, StageRecord
from converter.manifest import Environment
from converter.store.entries import LatencyRecord, Stored
from converter.store.keys import Parts

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "torchvision")


class Figures:
    """What one run asks of phase 2.

    Attributes:
        wanted: whether it has a phase 2 at all.
        basis: what figures depend on besides the file; recorded ones of another basis are stale.
    """

    def __init__(self, spec: BenchmarkSpec, environment: Environment) -> None:
        self._spec = spec
        self.wanted = bool(spec.providers)
        asked = spec.model_dump_json(exclude={"on_cached", "optional"})
        self.basis: Parts = {
            "machine": f"{environment.cpu}, {environment.cores} cores",
            "gpus": ", ".join(f"{gpu.name} {gpu.driver}" for gpu in environment.gpus),
            "asked": asked,
            **{name: environment.packages.get(name) or "-" for name in _PACKAGES},
        }

    def awaited(self, result: JobResult) -> JobResult:
        """A result whose stage says that phase 2 comes, or was not asked for."""
        stage = StageRecord(status="not_run" if self.wanted else "not_requested")
        return result.model_copy(
            update={"stages": {**result.stages, "benchmark": stage}, "latency": []}
        )

    def of_stored(self, stored: Stored) -> JobResult:
        """The stored result, with its figures where ``benchmark.on_cached`` takes them over."""
        policy, recorded = self._spec.on_cached, stored.latency
        if not self.wanted or policy == "always":
            return self.awaited(stored.result)
        if policy == "stale" and (recorded is None or recorded.basis != self.basis):
            return self.awaited(stored.result)
        if recorded is None:
            reason = "benchmark.on_cached is never, and the store has no figures"
            recorded = LatencyRecord(
                basis=self.basis,
                latency=[
                    Latency(provider=name, status="not_requested", reason=reason)
                    for name in self._spec.providers
                ],
                stage=StageRecord(status="not_requested"),
            )
        stages = {**stored.result.stages, "benchmark": recorded.stage}
        return stored.result.model_copy(update={"latency": recorded.latency, "stages": stages})

    def record(self, result: JobResult) -> LatencyRecord:
        """What the store keeps of a measured result."""
        return LatencyRecord(
            basis=self.basis, latency=result.latency, stage=result.stages["benchmark"]
        )
