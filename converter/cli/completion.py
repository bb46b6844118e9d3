"""Completion in bash: overrides, commands, flags and names of the registry.

Hydra's own script completes ``python FILE.py`` only, so ``python -m converter`` needs one of ours.
What there is to complete in an override is still Hydra's answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from converter.finalize.history import OUTPUTS
from converter.model.errors import ConfigError, Problem

# What follows these is a name of the registry, or a file, which bash completes itself.
_OF_THE_REGISTRY = ("convert", "list")
# What follows this is a folder of `outputs`.
_OF_EXPERIMENTS = "history"
# This one takes what a run takes.
_OF_OVERRIDES = ("plan",)
# And this one a folder that is published to, which bash completes, then a model of it.
_OF_A_ZOO = "fetch"

_PLAIN = r"[\w./=+~@,:%-]+"

_SCRIPT = r"""
_converter_completion() {
    local line=${COMP_LINE:0:COMP_POINT} word choice choices program
    local start='^[[:space:]]*([^[:space:]]*python[0-9.]*[[:space:]]+-m[[:space:]]+converter|[^[:space:]]*converter)[[:space:]]'
    COMPREPLY=()
    [[ $line =~ $start ]] || return 0
    read -ra program <<< "${BASH_REMATCH[1]}"
    word=${line##*[[:space:]]}
    choices=$(COMP_LINE=$line "${program[@]}" --shell-completion query=bash 2> /dev/null)
    # Not by compgen -W: it would run what a name says, such as $(...).
    while read -r choice; do
        [[ -n $choice && $choice == "$word"* ]] && COMPREPLY+=("$choice")
    done <<< "$choices"
    # bash replaces only what follows the last of these.
    local kept=${word%"${word##*[=:]}"}
    [[ $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    # A space would end an override whose value is still to come.
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    return 0
}
complete -o bashdefault -o default -F _converter_completion python python3 converter
""".lstrip()  # noqa: E501
_REMOVAL = "complete -r python python3 converter; unset -f _converter_completion\n"


def run(overrides: Sequence[str], flags: Iterable[str], commands: Iterable[str]) -> str | None:
    """What ``--shell-completion`` prints for bash; None: of another shell, which is Hydra's matter.

    Args:
        overrides: ``install=bash``, ``uninstall=bash``, or ``query=bash`` with the line so far in
            the environment variable ``COMP_LINE``.
        flags: of a run, such as ``--config-dir``.
        commands: as they are typed.

    Raises:
        ConfigError: none of these, or more than one.
    """
    found = re.fullmatch(r"(install|uninstall|query)=(\w+)", " ".join(overrides))
    if found is None:
        hint = 'For bash: eval "$(python -m converter --shell-completion install=bash)"'
        message = "--shell-completion takes install=SHELL or uninstall=SHELL."
        raise ConfigError(Problem("usage", message, hint))
    action, shell = found.groups()
    if shell != "bash":
        return None
    if action == "install":
        return _SCRIPT
    if action == "uninstall":
        return _REMOVAL
    line = re.sub(r"^\s*\S*(python[\d.]*\s+-m\s+)?converter\s", "", os.environ["COMP_LINE"])
    # What a shell reads otherwise than as itself must not get onto the line.
    found_words = (w for w in suggestions(line, flags, commands) if re.fullmatch(_PLAIN, w))
    return "\n".join([*found_words, ""])


def suggestions(line: str, flags: Iterable[str], commands: Iterable[str]) -> list[str]:
    """The words that the last one of ``line`` may become, sorted.

    Args:
        line: what follows the program's name, up to the cursor.
        flags: of a run.
        commands: as they are typed.
    """
    *earlier, word = line.split(" ")
    words = [text for text in earlier if text]
    command = words[0] if words else ""
    if command in _OF_THE_REGISTRY:
        import registry

        return [name for name in registry.names() if name.startswith(word)]
    if command == _OF_EXPERIMENTS and len(words) == 1:
        folders = (path.name for path in Path(OUTPUTS).glob("*/"))
        return sorted(name for name in folders if name.startswith(word) and name[0] != ".")
    if command == _OF_A_ZOO and len(words) == 2:
        return [name for name in _fetchable(words[1]) if name.startswith(word)]
    if command in set(commands) - set(_OF_OVERRIDES):
        return []
    if word.startswith("-"):
        return sorted(flag for flag in flags if flag.startswith(word))
    first = [name for name in commands if not words and name.startswith(word)]
    return sorted({*first, *_overrides(words, word)})


def _fetchable(zoo: str) -> list[str]:
    from converter.finalize import fetching, zoo_index

    try:
        return fetching.names(zoo_index.read(Path(zoo)))
    except OSError:  # a URL, or no zoo: the command says which
        return []


def _overrides(words: list[str], word: str) -> list[str]:
    """What Hydra would complete ``word`` to, with the user's own folder."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    from converter.config import compose
    from converter.config.point import CONFIG

    own = [after for flag, after in pairwise(words) if flag in ("--config-dir", "-cd")]
    hydra = compose.opened(own[-1] if own else None)
    try:
        said = " ".join([*(text for text in words if "=" in text or text[0] == "~"), word])
        answer: list[str] = BashCompletion(hydra.config_loader)._query(CONFIG, said)
    finally:
        GlobalHydra.instance().clear()
    return answer
