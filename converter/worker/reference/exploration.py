"""Which cases a file is verified on, found by running the model.

The traced example and the user's own cases come first. Then values and sizes that users feed, and
those on both sides of a limit that the model's code holds; then the usual ones, until many in a row
show no new way through the code, or the budget is spent. Every case that PyTorch takes stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from converter.model.job import Job
from converter.worker.inputs import cases, dtypes, factors
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array
from converter.worker.recording import coverage, isolation, stages
from converter.worker.recording.coverage import Ways
from converter.worker.reference import budget, harvest
from converter.worker.reference.budget import Work
from converter.worker.reference.execution import Runner
from converter.worker.runtime.starting import first_line

# So many cases in a row that show nothing new end the search.
_PATIENCE = 12
OTHER_SIZES = 2
"""How many other sizes of each symbol a file is tried at."""
# A case that takes more than this share of the budget waits for the cheaper ones.
_DEAR = 1 / 8
# A number above may stand for the square of a size; the roots of others are tried in any case.
_SQUARE = 256
# What code calls that expects missing values.
_ASK_FOR_NAN = {"isnan", "nan_to_num", "nanmean", "nansum", "nanmedian", "isfinite"}


@dataclass
class Explored:
    """What the search found.

    Attributes:
        kept: cases with their inputs and PyTorch's outputs.
        ways: what each of them showed, in the same order.
        refused: sizes that PyTorch does not take, by symbol, and why it did not take the first.
        dropped: cases that PyTorch refuses, or at which it is not finite: label and reason.
        left_out: labels of cases that the budget did not reach.
    """

    kept: list[tuple[Case, dict[str, Array], list[Array]]] = field(default_factory=list)
    ways: list[Ways] = field(default_factory=list)
    refused: dict[str, dict[int, str]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Exploration:
    """The search over the cases of one job.

    Args:
        run: runs the model; all cases go to one replica, so that state would show.
        watch: whether the model is Python code whose ways can be watched.
        ordered: its outputs list detections by their scores. Equal elements have no order, so that
            cases that are full of them would say nothing.

    Attributes:
        job: with the rules of sizes that are known so far.
    """

    def __init__(
        self, run: Runner, job: Job, found: Explored, *, watch: bool, ordered: bool
    ) -> None:
        self._run, self.job, self._found = run, job, found
        self._watch, self._ordered = watch, ordered
        self._seen = set().union(*(ways.taken for ways in found.ways))
        self._tried = {case.label for case, _, _ in found.kept}
        self._taken: dict[str, bool] = {}

    def search(self, passes: float, work: Work, limits: Iterable[float] = ()) -> None:
        """Try values, limits and usual sizes.

        Args:
            passes: forward passes of the traced example that it may take.
            work: what one of them does.
            limits: numbers beside those that the model's own code and attributes hold.
        """
        # Of all stated cases: one of them may take a way that holds other limits.
        codes = set().union(*(ways.codes for ways in self._found.ways))
        held = set().union(limits, *(ways.constants for ways in self._found.ways))
        model = self._run.model
        sizes = sorted({*harvest.sizes(model, codes), *(int(n) for n in held if _whole(n))})
        # Both sides of zero are among the patterns of every input already.
        numbers = sorted({*harvest.numbers(model, codes), *map(abs, held - {0})})
        # Attention compares the square of a length.
        sizes += [math.isqrt(int(n)) for n in numbers if n > _SQUARE and n == int(n)]
        names = set().union(*(ways.names for ways in self._found.ways))
        # Only for code that asks for it: elsewhere the outputs would be NaN too, and the case
        # dropped.
        required, values = cases.of_values(self.job, numbers, nan=bool(names & _ASK_FOR_NAN))
        promising, usual = cases.of_sizes(self.job, sizes)
        together = cases.of_tables(self.job, harvest.tables(model))
        traced = self._found.kept[0][0]
        cheap: list[Case] = []
        dear: list[Case] = []
        # Measured by the whole budget, so that what remains does not decide which kind a case is.
        for case in cases.of_all_sizes(self.job, {*sizes, *numbers}):
            (dear if budget.cost(case, traced, work) > _DEAR * passes else cheap).append(case)
        # Of what resizes, whatever the budget: no other size shows what rounding does there.
        for case in factors.offered(self.job, work.scales | harvest.scales(model)):
            if case.label not in self._tried:
                self.attempt(case)
        promising = cases.in_turn([promising, factors.offered(self.job, numbers)])
        left = passes
        # What users are most likely to feed comes first.
        for offered, patience in (
            (required, None),
            # In turn, so that many limits of one kind do not take the budget of the others.
            (cases.in_turn([together, cheap, promising, values]), None),
            (dear, None),
            # Only the usual ones give up early. The others stand for limits that the code really
            # has.
            (usual, _PATIENCE),
        ):
            left = self._spend(offered, left, work, patience)

    def turn(self, ends: Callable[[], dict[str, list[int]]]) -> None:
        """Where a condition on a size went one way only, try sizes beside the ends of its range.

        Args:
            ends: finds them, which takes as long as a small export.
        """
        if not self._watch or not cases.symbols(self.job):
            return
        if coverage.unreached(self._found.ways):
            # Not counted against the budget: there are two sizes for each end of a range.
            for case in cases.of_ends(self.job, ends()):
                if case.label not in self._tried:
                    self.attempt(case)

    def _spend(
        self, offered: Iterable[Case], passes: float, work: Work, patience: int | None
    ) -> float:
        """Run cases until nothing new has shown for a while; gives the passes that are left.

        Args:
            patience: so many cases without anything new; ``None``: all.
        """
        quiet = 0
        traced = self._found.kept[0][0]
        for case in offered:
            if patience is not None and quiet > patience:
                break
            # The label is the case: of the same name it would run a second time for nothing.
            if case.label in self._tried or (self._ordered and case.ties):
                continue
            worth = budget.cost(case, traced, work)
            # The next one may be cheaper and still fit.
            if worth > passes:
                if case.label not in self._found.left_out:
                    self._found.left_out.append(case.label)
                continue
            passes -= worth
            quiet = 0 if self.attempt(case) else quiet + 1
        return passes

    def attempt(self, case: Case) -> bool:
        """Run a case and keep it where PyTorch takes it; whether it showed a new way."""
        kept = len(self._found.kept)
        new = self._attempt(case)
        self._taken[case.label] = len(self._found.kept) > kept
        return new

    def _attempt(self, case: Case, *, least: bool = False) -> bool:
        """Run a case and keep it where PyTorch takes it; whether it showed a new way.

        Args:
            least: its values are the smallest there are, so that its sizes are at fault.
        """
        self._tried.add(case.label)
        inputs = case.draw(self.job.seed)
        outputs: list[Array] = []
        ways = Ways()

        def run() -> None:
            watching = coverage.watching(ways) if self._watch else nullcontext()
            # On the replica that has run the others: state that builds up shows in the last repeat.
            outputs.extend(self._run(inputs, used=True, within=watching))

        crash = self._crash(case, inputs) if 0 in case.sizes.values() else None
        error = stages.refusal(run) if crash is None else crash
        why = first_line(error) if error is not None else _unusable(outputs)
        if error is not None:
            self._run.used = None  # who knows in what state the call has left it
        if why:
            # Lengths or ids that were drawn for the traced size may not fit this one.
            if (other := cases.with_least(self.job, case)) is not None:
                return self._attempt(other, least=True)
            # Else its values may be what PyTorch refuses, and the size is not to blame.
            sized = bool(case.sizes) and (least or not case.filled)
            # Several symbols at once leave open which of them is refused.
            if sized and (symbol := case.alone) is not None:
                refused = self._found.refused.setdefault(symbol, {})
                refused[case.sizes[symbol]] = f"at {case.label}: {why}"
            if not sized:
                self._found.dropped.append(f"{case.label}: {why}")
            return False
        self._found.kept.append((case, inputs, outputs))
        self._found.ways.append(ways)
        new = ways.taken - self._seen
        self._seen |= new
        return bool(new)

    def _crash(self, case: Case, inputs: dict[str, Array]) -> Exception | None:
        """How native code ends the process at a case: some kernels do at a size of zero."""

        def run() -> None:
            torch.set_num_threads(1)  # those of the parent are not there
            stages.refusal(lambda: self._run(inputs))

        return isolation.failure(run)

    def other_sizes(self) -> None:
        """Two other sizes for each dynamic symbol, and for all of them together."""
        # What follows another symbol by a rule moves with it.
        every = cases.rules(self.job).movers()
        for moved in [[symbol] for symbol in every] + ([every] if len(every) > 1 else []):
            self._first(cases.candidates(self.job, moved), OTHER_SIZES)

    def _first(self, offered: Iterable[Case], most: int) -> None:
        kept = 0
        for case in offered:
            # Of the same name it was tried before a rule was found.
            kept += self.takes(case)
            if kept == most:
                break

    def takes(self, case: Case) -> bool:
        """Whether PyTorch takes a case, which is kept then; it runs once."""
        if case.label not in self._taken:
            self.attempt(case)
        return self._taken[case.label]

    def tried(self, case: Case) -> bool:
        """Whether a case was run already."""
        return case.label in self._taken

    def forget(self, wanted: Callable[[Case], bool]) -> None:
        """Drop cases that were kept."""
        found = self._found
        both = zip(found.kept, found.ways, strict=True)
        kept = [(item, ways) for item, ways in both if not wanted(item[0])]
        # In place: whoever runs the search holds these lists.
        found.kept[:], found.ways[:] = [item for item, _ in kept], [ways for _, ways in kept]

    def ends_of_rules(self, work: Work) -> list[tuple[Case, str]]:
        """Sizes at both ends of the ranges that rules state.

        Returns:
            Those that PyTorch does not take, and why; too large ones are left out.
        """
        traced = self._found.kept[0][0]
        refused = []
        for case in cases.at_ends(self.job):
            if budget.too_large(case, traced, work):
                self._found.left_out.append(case.label)
            elif not self.takes(case):
                symbol = case.alone or ""
                why = self._found.refused.get(symbol, {}).get(case.sizes.get(symbol, -1), "")
                refused.append((case, why))
        return refused


def _unusable(outputs: list[Array]) -> str:
    """Why a case says nothing, or an empty string."""
    if not any(output.size for output in outputs):
        return "its outputs are empty"
    if not all(np.isfinite(output).all() for output in outputs if _has_nan(output)):
        return "its outputs are not finite"
    return ""


def _has_nan(values: Array) -> bool:
    return dtypes.is_float(values) or values.dtype.kind == "c"


def _whole(number: float) -> bool:
    # 0 and 1 are tried in any case.
    return number == int(number) and number >= 2


def watches(model: object) -> bool:
    """Whether a model is Python code."""
    return isinstance(model, torch.nn.Module) and not isinstance(model, torch.jit.ScriptModule)
