"""Files of inputs and of cases at a URL, from a server on loopback."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from website import Site

from converter.model.errors import Code

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("zoo")]
SHAPE = [2, 3, 8, 8]


def put(site: Site, name: str, array: Any) -> dict[str, Any]:
    """What an input states of an array that lies there from now on."""
    file = io.BytesIO()
    np.save(file, array)
    site.answers[f"/{name}"] = [(200, file.getvalue())]
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    return {"path": f"{site.address}/{name}", "sha256": sha256}


def test_each_is_downloaded_once_and_is_no_file_that_the_model_read(
    site: Site, convert: Callable[..., Any]
) -> None:
    generator = np.random.default_rng(0)
    image = generator.standard_normal(SHAPE, np.float32)
    inputs = {"x": {"shape": SHAPE, **put(site, "x.npy?version=1", image)}}
    cases = [{"label": "dark", "inputs": {"x": put(site, "dark.npy", image / 9)}}]
    for _ in range(2):  # downloaded, and found
        found = convert("Conv", inputs=inputs, verify={"cases": cases})
        assert found.result.status == "ok", found.result.error
        assert {Path(path).suffix for path in found.result.files_read} <= {".py"}
    assert {case.label for case in found.result.verify.cases} >= {"traced", "dark"}
    x = found.result.verify.domain.inputs[0]
    assert (x.low, x.high) == pytest.approx((image.min(), image.max()), rel=1e-3)
    assert site.asked == {"/x.npy?version=1": 1, "/dark.npy": 1}


@pytest.mark.parametrize("of", ["inputs.x", "verify.cases.0.inputs.x"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.npy", "{of}.path: cannot download {url}: Not Found"),
        ("other.npy", "{url} is not the file that was promised: {of}.sha256 is {wanted}, the"),
    ],
)
def test_what_does_not_come_says_so_before_the_model_runs(
    site: Site, convert: Callable[..., Any], of: str, name: str, said: str
) -> None:
    stated = put(site, "other.npy", np.ones(SHAPE, np.float32))
    stated |= {"path": f"{site.address}/{name}", "sha256": "0" * 64}
    inputs = {"x": {"shape": SHAPE, **(stated if of == "inputs.x" else {})}}
    cases = [] if of == "inputs.x" else [{"label": "dark", "inputs": {"x": stated}}]
    found = convert("Conv", inputs=inputs, verify={"cases": cases})
    assert found.code is Code.FORWARD
    assert said.format(of=of, url=stated["path"], wanted="0" * 64) in found.result.error.message
    assert found.result.stages["load"].status == "failed"
    assert found.result.stages["reference"].status == "not_run"
