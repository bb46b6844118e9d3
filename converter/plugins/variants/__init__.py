"""Variants: further artifacts of a model, made from its ONNX file.

A plugin of this kind is a module that has what ``Variant`` lists. It makes files and has no way to
say that they are right: ``converter.worker.pipeline.derive`` checks, verifies and seals them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from converter.model.base import Frozen
from converter.model.errors import StageError
from converter.model.records import AccuracyRecord, MadeRecord
from converter.plugins import loader
from converter.plugins.runnable import Interface

if TYPE_CHECKING:
    # The parent process imports this for the protocol, and never numpy.
    from numpy.typing import NDArray


class NothingToConvertError(ValueError):
    """A model has nothing that a variant could make smaller: no file can be of its precision."""


@dataclass
class Given:
    """What a plugin may ask for besides the file that it makes another one from.

    Attributes:
        interface: of that file.
        cases: the inputs of all cases that files are verified on, the traced example first.
        sizes: the sizes of each symbol in those cases, in order.
        samples: yields inputs to calibrate with, so many at most (``None``: all that there are).
        real: they are the user's ``data``; else they are drawn.
        trained: the weights are, or the data is real: what is lost on them counts.
        verdict: what is wrong with a candidate, and how much of the signal it keeps; ``None``:
            nothing, or that it is not judged by its signal.
        runtime: all options of ``PROVIDER``, as text.
        made: what the plugin tells of its work, for the manifest.
    """

    interface: Interface
    cases: Sequence[Mapping[str, NDArray[Any]]]
    sizes: Mapping[str, Sequence[int]]
    samples: Callable[[int | None], Iterator[Mapping[str, NDArray[Any]]]]
    real: bool
    trained: bool
    verdict: Callable[[Path], tuple[StageError | None, AccuracyRecord | None]]
    threads: int = 1
    seed: int = 0
    runtime: Mapping[str, str] = field(default_factory=dict)
    made: MadeRecord = field(default_factory=MadeRecord)


class Variant(Protocol):
    """What a plugin has.

    Attributes:
        FORMAT: of its files: ``onnx``, ``openvino_ir``.
        PRECISION: of weights and computation: ``float32``, ``float16``. A file that came out
            otherwise is refused, and the bounds of its verification follow from it. Where options
            decide, a function ``precision(options)`` says it in its place.
        PACKAGES: distributions whose versions decide what it makes.
        Options: its options, which are keys of its preset (``variant.NAME.KEY``).

    One whose files are not ONNX says as well:

    Attributes:
        SUFFIX: of the file to open first: ``.xml``.
        COMPANIONS: suffixes of the files that belong to it: ``(".bin",)``.
        PARTIAL: true for files of which some is of the precision, as much as is right; else half of
            the weights and a fifth of the nodes have to be.
        PROVIDER: the module of ``converter.plugins.providers`` that opens, checks and verifies it.

    One whose files follow from more than the file, the options and the packages has a function
    ``decided_by(options)``, which is called in the parent: by a name what is to be in the key of
    the job, such as the hash of a file that an option names.
    """

    FORMAT: str
    PRECISION: str
    PACKAGES: tuple[str, ...]
    Options: type[Frozen]

    def keeps_io(self, options: Any) -> bool:
        """Whether inputs and outputs keep their types; else floats are of ``PRECISION`` too."""

    def derive(self, parent: Path, target: Path, options: Any, given: Given) -> None:
        """Write ``target``, and beside it only what belongs to it: ``target.data``, companions.

        Args:
            parent: the verified ONNX file; it must stay as it is.
            target: in an empty folder of its own.

        Raises:
            NothingToConvertError: there is nothing in it that could be of this precision.
            ValueError: the model cannot be made so; a sentence that says why.
        """


def load(name: str) -> Variant:
    """The plugin of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    variant: Variant = loader.load("variants", name)
    return variant
