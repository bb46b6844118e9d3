"""What submitit calls within a task.

It travels to the node by value, so that it has nothing but the standard library: the converter is
imported from where the driver has it.
"""

from __future__ import annotations

import sys


def carry(path: list[str], errand: bytes) -> None:
    """Run an attempt to its end.

    Args:
        path: where the driver imports from.
        errand: see ``_slurm_task.run``.
    """
    sys.path[:] = path + [place for place in sys.path if place not in path]
    from converter.plugins.executors._slurm_task import run

    run(errand)
