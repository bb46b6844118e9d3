"""Nodes made past OmegaConf's checks are the nodes that it makes itself."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from converter.config import nodes

VALUES: dict[Any, Any] = {
    "text": "a",
    "number": 1,
    "fraction": 0.5,
    "truth": True,
    "nothing": None,
    "missing": "???",
    "lead": "${number}",
    "escaped": r"\${number}",
    0: {"batch": [1, [2, {"deep": "${.number}"}], []]},
    True: {},
    1.5: {"a": {"b": None}},
}


def state(node: Any) -> Any:
    """All that a node holds, but for the caches that OmegaConf fills as it goes."""
    attributes = dict(node.__dict__)
    parent = attributes.pop("_parent")
    attributes.pop("_flags_cache")
    content = attributes.pop("_content", None)
    below: Any = None
    if isinstance(content, dict):
        below = [(key, type(key), state(each)) for key, each in content.items()]
        assert all(each._get_parent() is node for each in content.values())
    elif isinstance(content, list):
        below = [state(each) for each in content]
        assert all(each._get_parent() is node for each in content)
    return type(node), attributes, parent is None, below


def test_they_hold_what_omegaconf_puts_there() -> None:
    assert state(nodes.of(VALUES)) == state(OmegaConf.create(VALUES))


def test_they_can_be_merged_changed_and_resolved_alike() -> None:
    found = []
    for made in (nodes.of(VALUES), OmegaConf.create(VALUES)):
        OmegaConf.set_struct(made, True)
        OmegaConf.update(made, "text", "b")
        with pytest.raises(OmegaConfBaseException) as caught:
            made.other = 1
        merged = OmegaConf.merge(made, {"nothing": {"x": "${lead}"}})
        made.missing = made[0].batch[1][1].deep = 3
        found.append((str(caught.value), str(merged), OmegaConf.to_container(made, resolve=True)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "values",
    [
        {"a": {"b": [date(2026, 1, 1)]}},
        {"a": {"b": "${oops"}},
        {"a": {None: 1}},
        {"a": {"b": {1, 2}}},
    ],
)
def test_what_omegaconf_refuses_is_refused_in_its_words(values: dict[Any, Any]) -> None:
    told = []
    for make in (nodes.of, OmegaConf.create):
        with pytest.raises(OmegaConfBaseException) as caught:
            make(values)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_values_are_read_as_they_are_written() -> None:
    made = OmegaConf.create({**VALUES, "none": {"x": 1}, "away": {"x": 1}})
    made.none = DictConfig(None)
    made.away = ListConfig("${text}")
    wanted = OmegaConf.to_container(made, resolve=False, enum_to_str=True)
    assert nodes.plain(made) == wanted


@pytest.mark.parametrize(
    ("node", "literal"),
    [
        (AnyNode("a"), True),
        (AnyNode(None), True),
        (AnyNode("${a}"), False),
        (AnyNode("x${a}"), False),
        (AnyNode("???"), False),
        (DictConfig({}), True),
        (ListConfig([]), True),
        (DictConfig(None), False),
        (DictConfig("???"), False),
        (ListConfig("${a}"), False),
    ],
)
def test_only_what_says_itself_is_literal(node: Any, literal: bool) -> None:
    assert nodes.is_literal(node) is literal
