"""Which nodes must stay in float32, found by verifying files: the least that was found in time.

The nodes are in the order in which they compute. With all of them in float32 a file is its parent,
and right; with none it is wrong. So there is a shortest beginning of the list with which it is
right, which bisection finds, and the last node of that is needed. It is kept, and the search goes
on in what stands before it, until the kept nodes alone are enough (U. Junker, "QuickXplain", 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Judge = Callable[[Sequence[str]], str]
"""Why a file with these nodes in float32 is wrong, in a sentence; empty: it is right."""


@dataclass
class Search:
    """A search with a bounded number of verified files.

    Attributes:
        judge: verifies a file.
        tries: how many files may still be verified.
        told: of each file the number of its float32 nodes, and what was wrong with it.
    """

    judge: Judge
    tries: int
    told: list[tuple[int, str]] = field(default_factory=list)

    def passes(self, nodes: Sequence[str]) -> bool:
        """Whether a file is right; false also where no try is left."""
        if self.tries <= 0:
            return False
        self.tries -= 1
        wrong = self.judge(nodes)
        self.told.append((len(nodes), wrong))
        return not wrong

    def least(self, kept: Sequence[str], nodes: Sequence[str]) -> list[str]:
        """Nodes with which a file is right: ``kept`` and some of ``nodes``.

        Args:
            kept: they stay in float32 in any case, and are not enough.
            nodes: in the order in which they compute; with all of them a file is right.
        """
        found = list(kept)
        before = list(nodes)
        while before:
            # `before[:high]` is enough, `before[:low]` is not.
            low, high = 0, len(before)
            while high - low > 1 and self.tries:
                middle = (low + high) // 2
                if self.passes([*found, *before[:middle]]):
                    high = middle
                else:
                    low = middle
            if high - low > 1:  # out of tries: what is known to be enough
                return [*found, *before[:high]]
            found.append(before[high - 1])
            before = before[: high - 1]
            # The last one needs no try: with it the file was right.
            if not before or self.passes(found):
                return found
            if not self.tries:
                return [*found, *before]
        return found
