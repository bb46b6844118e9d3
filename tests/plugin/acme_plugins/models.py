"""A family of models, ``acme/NAME``."""

from __future__ import annotations

from registry import Entry


def names() -> tuple[str, ...]:
    return ("acme/twice",)


def entry(name: str) -> Entry | None:
    if name not in names():
        return None
    return Entry(
        name=name,
        task="features",
        module="acme_plugins.net",
        builder="twice",
        inputs={"x": {"shape": [2, 6]}},
        outputs=("y",),
        parameters={"width": 6},
    )
