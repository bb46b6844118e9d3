"""Hydra's messages in words that say what to do here."""
from __future__ import annotations
from converter.errors import ConfigError
def worded(error, hydra, config_name, overrides):
    return ConfigError(f"RAW {type(error).__name__} {error!r} cause={error.__cause__!r} {vars(error)}")
