"""On what a file was verified, in short and in words."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from converter.inspection import text
from converter.model.records import Branch, InputDomain, SymbolDomain
from converter.model.verified import KEY, Verified, count, extent, never, read, sizes
from tests.manifests import verified_on


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([], "none"),
        ([7], "7"),
        ([2, 1], "1, 2"),
        ([1, 2, 3], "1–3"),
        ([33, 1, 2, 3, 4, 31, 32, 7, 7], "1–4, 7, 31–33"),
        ({0, 63, 64}, "0, 63, 64"),
    ],
)
def test_sizes_in_a_row_are_shown_by_their_ends(numbers: Iterable[int], said: str) -> None:
    assert sizes(numbers) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-4.125, 38.0, "-4.125 to 38"), (1.0, 1.0, "1 only"), (None, None, "no numbers")],
)
def test_values_are_shown_by_their_ends(low: float | None, high: float | None, said: str) -> None:
    assert extent(low, high) == said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("true", "never true"),
        ("false", "never false"),
        ("a turn", "no turn of the loop"),
        ("another value", "one value only"),
        ("an effect of its number", "its number changed nothing"),
    ],
)
def test_what_never_happened_at_a_branch(outcome: str, said: str) -> None:
    assert never(Branch(file="head.py", line=41, text="if T > 16", outcome=outcome)) == said


def test_branches_are_counted_in_words() -> None:
    assert count(1) == "1 branch of this model was never reached"
    assert count(3) == "3 branches of this model were never reached"


def test_a_file_says_it_in_json_that_reads_back() -> None:
    said = Verified.of(verified_on())
    assert said.words() == (
        '{"sizes":{"batch":[1,2,3,5,7,8]},'
        '"values":{"image":{"low":-41.5,"high":38.0,"patterns":["normal","large"]}},'
        '"unreached":["head.py:41 `if T > 16` (true)"]}'
    )
    assert read(said.words()) == said


def test_the_traced_size_counts_as_verified() -> None:
    symbol = SymbolDomain(symbol="batch", traced=4, sizes=[1, 5])
    assert Verified.of(verified_on(symbols=[symbol])).sizes == {"batch": [1, 4, 5]}


@pytest.mark.parametrize("text", ["", "yes", "[]", '{"sizes": 3}', '{"by": "another program"}'])
def test_what_another_program_wrote_there_is_not_read(text: str) -> None:
    assert read(text) is None


def test_a_stranger_s_file_sends_nothing_to_the_terminal() -> None:
    said = read(Verified.of(verified_on()).words().replace("image", "\\u001b[2Jimage"))
    assert said is not None
    assert list(said.values) == ["image"]


def test_the_domain_in_a_few_lines_of_80_columns() -> None:
    usual = [n + step for n in (32, 64, 96, 128, 256, 512) for step in (-1, 0, 1)]
    domain = verified_on(
        2,
        symbols=[SymbolDomain(symbol="batch", traced=2, sizes=[1, 2, *usual], refused=[0])],
        inputs=[
            InputDomain(
                name="image",
                dtype="float32",
                low=-41.5,
                high=38.0,
                patterns=["normal", "large", "small", "grid", "tiny", "zeros", "equal", "positive"],
            )
        ],
        left_out=["batch=1024", "batch=1025"],
        dropped=["equal: its outputs are\nnot finite"],
    )
    assert text.domain(domain) == [
        "  size of batch  1, 2, 31–33, 63–65, 95–97, 127–129, 255–257, 511–513",
        "  input image    -41.5 to 38: normal; large; small; grid; tiny; zeros; equal;",
        "                 positive",
        "  never reached",
        "    head.py:41 `if T > 16` (true)",
        "    head.py:42 `if T > 17` (true)",
        "  nothing to compare: batch = 0",
        "  left out: batch=1024; batch=1025",
        "  dropped: equal: its outputs are not finite",
    ]
    assert KEY == "converter.verified"  # files that were published carry it
