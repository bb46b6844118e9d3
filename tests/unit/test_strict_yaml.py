"""Rows 1-5 and 8 of the fault list, at the reader; ``test_cli.py`` has them through the command."""

from __future__ import annotations

import time

import pytest

from converter.config.strict_yaml import MAX_ALIASED_NODES, MAX_BYTES, MAX_DEPTH, check
from converter.model.errors import ConfigError


def refusal(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigError) as caught:
        check(data, "zoo.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "a: 1\nb: [1, 2]\n",
        "# @package models.x\nsource: y\n",
        "a: &a {x: 1}\nb: *a\n",
        "shape: [1, 0, -3]\nrate: 1e-3\nname: 'a: 012'\n",
        'opset: "012"\n',
        "version: 1.30\ntime: 0.5\nhex: 0x1F\n",
        "? [1, 2]\n: x\n",
    ],
)
def test_a_plain_mapping_passes(text: str) -> None:
    check(text.encode(), "zoo.yaml")


def test_a_syntax_error_names_file_and_line() -> None:
    assert refusal("a: 1\nb: [1, 2\nc: 3\n").startswith("zoo.yaml:3: not valid YAML: ")


def test_a_duplicate_key_is_named_with_its_line() -> None:
    message = refusal("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert message == "zoo.yaml:4: duplicate key 'c'. Remove one of the two."


def test_the_same_key_in_two_mappings_is_no_duplicate() -> None:
    check(b"a: {c: 1}\nb: {c: 2}\nc: [{a: 1}, {a: 2}]\n", "zoo.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# @package models.x\n", "---\n"])
def test_an_empty_file_is_no_mapping(text: str) -> None:
    assert "a mapping is expected" in refusal(text)


@pytest.mark.parametrize(("text", "found"), [("[1]", "a list"), ("7", "a single value")])
def test_another_root_is_no_mapping(text: str, found: str) -> None:
    assert refusal(text) == f"zoo.yaml:1: found {found} at the root; a mapping is expected."


def test_a_second_document_is_refused() -> None:
    assert (
        refusal("a: 1\n---\nb: 2\n") == "zoo.yaml:3: a second document; a file holds one mapping."
    )


def test_a_nul_byte_is_refused() -> None:
    assert refusal(b"a: 1\0\n") == "zoo.yaml: contains a NUL byte; a text file is expected."


def test_other_encodings_are_refused_with_the_line() -> None:
    assert refusal("a: 1\nb: é\n".encode("latin-1")) == (
        "zoo.yaml:2: is not UTF-8. Save the file as UTF-8."
    )


def test_exploding_aliases_are_refused_at_once() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    started = time.monotonic()
    message = refusal("\n".join(lines))
    assert f"the limit of {MAX_ALIASED_NODES} nodes" in message
    assert time.monotonic() - started < 1


def test_many_plain_values_are_not_an_explosion() -> None:
    check(("a: [" + "1, " * (2 * MAX_ALIASED_NODES) + "1]").encode(), "zoo.yaml")


def test_an_alias_inside_its_own_anchor_is_refused() -> None:
    assert "*a has no complete anchor before it" in refusal("a: &a [1, *a]\n")


def test_deep_nesting_is_refused_before_anything_recurses() -> None:
    assert f"the limit of {MAX_DEPTH} levels" in refusal("a: " + "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize("value", ["012", "-017", "1:30", "190:20:30.15", "1e400", "-1e999"])
def test_a_number_that_yaml_misreads_is_to_be_quoted(value: str) -> None:
    assert refusal(f"a: 1\nb: {value}\n").endswith(f'quote it: "{value}".')
    assert refusal(f"a: 1\nb: {value}\n").startswith("zoo.yaml:2: ")


@pytest.mark.parametrize("value", ["9" * 5000, "-" + "1" * 401])
def test_a_number_that_is_longer_than_any_is_refused(value: str) -> None:
    assert refusal(f"a: 1\nb: {value}\n").startswith(f"zoo.yaml:2: a number of {len(value)} digits")


def test_all_problems_are_told_at_once() -> None:
    message = refusal("a: 012\na: 1:30\n")
    assert message.count("\n") == 2
    assert "duplicate key 'a'" in message


def test_a_file_that_is_no_configuration_by_its_size_is_not_parsed() -> None:
    started = time.monotonic()
    message = refusal(b"a: [" + b"x," * (MAX_BYTES // 2) + b"]")
    assert message == "zoo.yaml: has 32 MiB; expected 32 at most. Put models into several files."
    assert time.monotonic() - started < 1
