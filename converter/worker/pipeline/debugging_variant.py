"""Where a file of 16-bit floats begins to be wrong: load → reference → derive → verify → publish.

The variant is made again from the float32 file of its run. Then its values, rounded as on a device,
are held against those of that file, and what would have to stay in float32 is tried.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converter.model.errors import StageError
from converter.model.job import DebugVariant, Job
from converter.model.records import JobResult
from converter.plugins.variants._reduced import called
from converter.worker.inputs.reduced import REDUCED
from converter.worker.onnxfile import structure
from converter.worker.pipeline import debugging, giving, making, recheck
from converter.worker.pipeline.comparisons import File
from converter.worker.pipeline.debugging import Found
from converter.worker.pipeline.pipeline import Emit
from converter.worker.pipeline.rounding import AgainstFull, Rounded
from converter.worker.recording.stages import Recorder
from converter.worker.reference import preparing, reference
from converter.worker.reference.kept import Kept
from converter.worker.reference.reference import References
from converter.worker.runtime import custom_ops
from converter.worker.sources.loading import Loaded
from converter.worker.verify.verification import Verdict


@custom_ops.loaded
def run(job: DebugVariant, emit: Emit) -> JobResult:
    """Find the first node that 16 bits are not enough for, and write what shows it.

    Returns:
        As ``debugging.run``.
    """
    return debugging.result_of(job, emit, lambda recorder, found: _run(job, recorder, found))


def _run(job: DebugVariant, recorder: Recorder, found: Found) -> None:
    with recorder.stage("load"):
        loaded, complete = preparing.load(job)
    with recorder.stage("reference"):
        references = reference.compute(loaded, complete)
        complete = references.of_job(complete)
    variant = _Variant(job, complete, loaded, references)
    with recorder.stage("derive"):
        path = variant.made([], "variant")
    with recorder.stage("verify") as notes:
        verdict = variant.verdict(path)
        found.verify = verdict.record
        case = verdict.failed
        if verdict.error is None or case is None:
            notes.append("the file is right on all cases")
            return
        folder = Path(job.staging_dir) / "again"
        folder.mkdir()
        kind = REDUCED[job.precision]
        file = File(path, complete, case, case.inputs, folder)
        rounded = AgainstFull(Path(job.parent_file), kind).rounded(file)
        told = [*rounded.searched.notes, _kept(variant, rounded)]
        searched = replace(rounded.searched, notes=told)
    with recorder.stage("publish"):
        found.files = debugging.write(job, searched, verdict.error, case)


@dataclass(frozen=True)
class _Variant:
    """The variant, which can be made again with more of it in float32."""

    job: DebugVariant
    complete: Job
    loaded: Loaded
    references: References

    def made(self, nodes: Sequence[str], name: str) -> Path:
        """Its file, in a folder of that name.

        Args:
            nodes: those that compute in float32 besides.

        Raises:
            StageError: DERIVE.
        """
        folder = Path(self.job.staging_dir) / name
        folder.mkdir(parents=True)
        options = {**self.job.options, "node_block_list": [*self._stated, *nodes]}
        asked = self.job.model_copy(
            update={"staging_dir": str(folder), "options": options if nodes else self.job.options}
        )
        kept = Kept(self.references, self.complete, None, None)
        parent = structure.read(Path(self.job.parent_file))
        given = giving.given(asked, kept, parent, self.verdict)
        making.make(asked, folder / self.job.target, given)
        return folder / self.job.target

    @property
    def _stated(self) -> list[str]:
        stated: list[str] = self.job.options.get("node_block_list", [])
        return stated

    def verdict(self, path: Path) -> Verdict:
        parent = Path(self.job.parent_file)
        return recheck.verify(path, self.complete, self.loaded, self.references, parent=parent)

    def right(self, nodes: Sequence[str], name: str) -> bool:
        try:
            return self.verdict(self.made(nodes, name)).error is None
        except StageError:
            return False

    def words(self, nodes: Sequence[str]) -> str:
        """What the model's configuration says for it."""
        listed = json.dumps([*self._stated, *nodes])
        stated = f"variants: {{{self.job.artifact}: {{node_block_list: {listed}}}}}"
        return "\n".join(["```yaml", f"# models.{self.job.name}", stated, "```"])


def _kept(variant: _Variant, rounded: Rounded) -> str:
    """What has to stay in float32, as far as a few tries tell."""
    tried: list[list[str]] = []
    for nodes in rounded.suspects:
        names = list(dict.fromkeys(map(called, nodes)))
        if names in tried:
            continue
        tried.append(names)
        if variant.right(names, f"tried-{len(tried)}"):
            words = variant.words(names)
            return f"With this in float32 the file is right; it was verified:\n\n{words}"
    return (
        f"The file is wrong also with {', '.join(tried[-1])} in float32. The variant `mixed` looks "
        "for the nodes that have to stay there."
    )
