"""The parser of a command's arguments."""

from __future__ import annotations

import argparse
from typing import NoReturn

from converter.model.plaintext import plain


class Parser(argparse.ArgumentParser):
    """What it refuses, and repeats, is made safe to print."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))
