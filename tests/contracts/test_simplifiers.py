"""Every simplifier in the folder keeps the contract."""

from __future__ import annotations

import pytest
from simplifier_contract import SimplifierContract

from converter.plugins import loader

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the simplifiers' own
]


class TestOnnxsim(SimplifierContract):
    name = "onnxsim"


class TestOnnxslim(SimplifierContract):
    name = "onnxslim"


def test_every_simplifier_is_under_contract() -> None:
    tested = {case.name for case in SimplifierContract.__subclasses__()}
    assert tested == set(loader.names("simplifiers"))
