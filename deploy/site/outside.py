"""A hook of MkDocs: files outside of ``docs/`` that its pages link to become part of the site.

Links in the pages stay those that work in a checkout, such as ``../deploy/crontab``.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
# Where each is in the repository, and so in the site.
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "deploy/crontab", "deploy/github-actions-nightly.yml")
_LINK = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between the repository's folders into links between pages of the site."""
    here = page.file.src_uri
    # `docs/` is the root of the site; what lies beside it in the repository lies in it there.
    folder = dirname(here if here in OUTSIDE else join("docs", here))

    def rewritten(match: re.Match[str]) -> str:
        target = normpath(join(folder, match[1]))
        inside = target.removeprefix("docs/")
        return f"]({relpath(inside, dirname(here) or '.')}"

    return _LINK.sub(rewritten, markdown)
