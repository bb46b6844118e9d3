"""Coverage-guided bytes into the YAML and the manifest reader; atheris is an extra of nobody.

    pip install atheris                     # a wheel for Linux x86-64 and Python 3.11
    python tests/fuzz/atheris_readers.py yaml -max_total_time=60 -seed=1
    python tests/fuzz/atheris_readers.py manifest -max_total_time=60 -seed=1
    python tests/fuzz/atheris_readers.py yaml FILE          # one input again

The rest of the command line is libFuzzer's. A reader may refuse in its own words and with nothing
else: any other exception ends the search, and leaves the input in ``crash-…``. Known limits: only
Python is instrumented, neither libyaml nor pydantic's core.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["converter", "yaml", "omegaconf"]):
    from pydantic import ValidationError

    from converter.config import nodes, strict_yaml, validation
    from converter.model import manifest, version_1
    from converter.model.errors import ConfigError
    from converter.model.manifest import Manifest

_TESTS = Path(__file__).parents[1]
_SEEDS = {
    "yaml": sorted((_TESTS.parent / "configs").rglob("*.yaml")),
    "manifest": [path for name in ("manifest.json", "results.jsonl", "result.json")
                 for path in sorted((_TESTS / "data/v1").rglob(name))],
}  # fmt: skip


def read_yaml(data: bytes) -> None:
    """A configuration file as Hydra is given it, and its values as a run's."""
    try:
        strict_yaml.check(data, "zoo.yaml")
        values = strict_yaml.yaml.load(data.decode(), Loader=strict_yaml._omegaconf_loader())
    except (ConfigError, strict_yaml.yaml.YAMLError):
        return
    try:
        nodes.of(values)
        validation.parse(values)
    except (ConfigError, strict_yaml.yaml.YAMLError, nodes.OmegaConfBaseException):
        return


def read_manifest(data: bytes) -> None:
    """A manifest, a line of results, the result of a job."""
    for kind, read in (
        (Manifest, version_1.manifest),
        (manifest.ModelRecord, version_1.model),
        (manifest.JobResult, version_1.result),
    ):
        try:
            found = kind.model_validate_json(read(data))
        except ValidationError:
            continue
        assert kind.model_validate_json(found.model_dump_json()) == found


READERS: dict[str, Callable[[bytes], None]] = {"yaml": read_yaml, "manifest": read_manifest}


def main() -> None:
    """Search until libFuzzer's own limits end it."""
    name, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(_SEEDS[name]):
            shutil.copyfile(path, Path(folder, str(number)))
        # Of one input no folder is taken.
        corpus = [] if any(Path(word).is_file() for word in rest) else [folder]
        atheris.Setup([sys.argv[0], *rest, *corpus], READERS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
