"""Comparing a file with its references, apart from the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jobs import IMAGE, convert

from converter.errors import Code

pytestmark = pytest.mark.integration


def test_a_second_look_at_the_noise_is_on_the_same_provider(
    tiny_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is wrong on a device must not be judged again by the CPU."""
    from converter.worker import preparing, reference, verification
    from converter.worker.session import Session

    asked: list[str] = []

    def opened(model: Any, *, provider: str, **options: Any) -> Session:
        asked.append(provider)
        return Session(model, **options)

    job = tiny_job("Conv", inputs=IMAGE)
    converted = convert(job)
    loaded, complete = preparing.load(job)
    references = reference.compute(loaded, complete)
    references.cases = [
        reference.Reference(item.case, item.inputs, [np.asarray(o) * 1.1 for o in item.outputs])
        for item in references.cases
    ]
    again = iter([True, False])
    references.refine = lambda: next(again)
    monkeypatch.setattr(verification, "Session", opened)
    found = verification.verify(converted.path, references, complete, provider="cuda")
    assert found.error is not None
    assert found.error.code is Code.VERIFY_VALUE
    assert asked == ["cuda", "cuda"]
