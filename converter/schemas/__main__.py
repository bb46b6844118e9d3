"""``python -m converter.schemas [DIR]``: write the JSON Schemas and the reference of keys.

Without ``DIR`` they go to ``docs/`` of this checkout, where they are under version control: a
test says when they no longer follow the types. With it, all go to that folder, and know the
plugins of other distributions too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converter.schemas import files


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m converter.schemas",
        description="Write the JSON Schemas and the reference of keys.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="a folder of your own; the schemas there know the plugins that are installed "
        "(default: docs/ of this checkout, built-in plugins only)",
    )
    chosen = parser.parse_args().folder
    if chosen is None and not files.SCHEMAS.is_dir():
        parser.error("this is no checkout: say where to write, as in `… my_zoo/schemas`")
    written = files.texts(built_in=chosen is None)
    for name, text in written.items():
        path = files.place(name) if chosen is None else Path(chosen, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    if chosen is not None:
        print("In the first lines of a YAML file, below `# @package …` where there is one:")
        print("# yaml-language-server: $schema=RELATIVE/PATH/TO/experiment.schema.json")


if __name__ == "__main__":
    main()
