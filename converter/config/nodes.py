"""OmegaConf's nodes for plain values: made, and read, without its checks of each value.

OmegaConf (2.3) takes 10 to 45 us to make a node and 15 to hand its value over: it asks for flags,
annotations and interpolations that a value from a YAML file cannot have. What can have them still
takes that road, so that its checks and its words stay.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf
from omegaconf.base import ContainerMetadata, Metadata, Node
from omegaconf.errors import OmegaConfBaseException

_MISSING = "???"
_KEYS = (str, int, float, bool)
_VALUES = (str, int, float, bool, type(None))


class _OtherError(Exception):
    """Something in the values is not for this module."""


def of(values: dict[Any, Any]) -> DictConfig:
    """What ``OmegaConf.create`` makes of the values of a YAML file: the same nodes.

    Raises:
        OmegaConfBaseException: it refuses a value.
    """
    try:
        return _mapping(values, None, None)
    except (_OtherError, OmegaConfBaseException):
        # Values that YAML has and OmegaConf does not, or an interpolation with a mistake: only its
        # own way names the key.
        return OmegaConf.create(values)


def _mapping(values: dict[Any, Any], key: Any, parent: Node | None) -> DictConfig:
    node: DictConfig = DictConfig.__new__(DictConfig)
    content: dict[Any, Node] = {}
    node.__dict__.update(
        _metadata=_of_container(dict, key, Any),
        _parent=parent,
        _flags_cache=None,
        _content=content,
    )
    for name, value in values.items():
        if type(name) not in _KEYS:
            raise _OtherError
        content[name] = _node(value, name, node)
    return node


def _list(values: list[Any], key: Any, parent: Node) -> ListConfig:
    node: ListConfig = ListConfig.__new__(ListConfig)
    content: list[Node] = []
    node.__dict__.update(
        _metadata=_of_container(list, key, int),
        _parent=parent,
        _flags_cache=None,
        _content=content,
    )
    for index, value in enumerate(values):
        content.append(_node(value, index, node))
    return node


def _node(value: Any, key: Any, parent: Any) -> Node:
    kind = type(value)
    if kind is dict:
        return _mapping(value, key, parent)
    if kind is list:
        return _list(value, key, parent)
    if kind not in _VALUES:
        raise _OtherError
    if kind is str and "${" in value:
        return AnyNode(value, key, parent)  # looks at its grammar
    node: AnyNode = AnyNode.__new__(AnyNode)
    node.__dict__.update(
        _metadata=Metadata(ref_type=Any, object_type=None, optional=True, key=key),
        _parent=parent,
        _flags_cache=None,
        _val=value,
    )
    return node


def _of_container(kind: type, key: Any, keys: Any) -> ContainerMetadata:
    return ContainerMetadata(
        ref_type=Any, object_type=kind, optional=True, key=key, key_type=keys, element_type=Any
    )


def child(node: DictConfig | ListConfig, key: Any) -> Node:
    """The node of a key, as it is: neither resolved nor refused where it is missing."""
    found: Node = node.__dict__["_content"][key]
    return found


def is_literal(node: Node) -> bool:
    """Whether it is what it says: no interpolation, and not missing."""
    kind = type(node)
    if kind is AnyNode:
        said = node.__dict__["_val"]
        return type(said) is not str or not ("${" in said or said == _MISSING)
    # Of a container that is missing, null or an interpolation it is no collection.
    return (kind is DictConfig or kind is ListConfig) and (
        type(node.__dict__["_content"]) in (dict, list)
    )


def value(node: Node) -> Any:
    """What a literal node says: a plain value, or the container itself."""
    return node.__dict__["_val"] if type(node) is AnyNode else node


def plain(node: Node) -> Any:
    """The values below a node as they are written, and enumerations by name."""
    kind, content = type(node), node.__dict__.get("_content")
    if kind is DictConfig and type(content) is dict:
        return {key: plain(each) for key, each in content.items()}
    if kind is ListConfig and type(content) is list:
        return [plain(each) for each in content]
    said = node._value()
    return said.name if isinstance(said, Enum) else said
