"""Which texts are places, and that none of them keeps a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.storage import location
from converter.storage.location import Url


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("outputs/.store", Path("/here/outputs/.store")),
        ("/data/store", Path("/data/store")),
        ("file:///data/my%20store", Path("/data/my store")),
        ("s3://zoo/models/", Url("s3", "zoo/models")),
        ("s3a://zoo//models", Url("s3", "zoo/models")),
        ("gcs://zoo", Url("gs", "zoo")),
        ("abfs://box/zoo", Url("abfs", "box/zoo")),
    ],
)
def test_a_place_is_a_folder_or_a_url(text: str, place: location.Location) -> None:
    assert location.parse(text, Path("/here")) == place


def test_what_lies_above_and_below() -> None:
    place = Url("s3", "zoo/a/b")
    assert [str(each) for each in place.parents] == ["s3://zoo/a", "s3://zoo"]
    assert str(place / "c" / Path("d/e")) == "s3://zoo/a/b/c/d/e"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://KEY:hunter2@zoo/models", "has credentials in it"),
        ("s3://zoo/models?X-Amz-Signature=hunter2", "behind which keys are passed"),
        ("s3://zoo/models#hunter2", "behind which keys are passed"),
        ("simplecache::s3://zoo", "is a chain of file systems"),
        ("s3:///models", "expected s3://BUCKET/PREFIX"),
        ("s3://zoo/../other", "expected s3://BUCKET/PREFIX"),
        ("file://host/data", "names a host"),
        ("http://zoo/models", "is a page of the web, where nothing can be listed or written"),
        ("https://zoo/models", "is a page of the web"),
        ("s3:/zoo/x", r"too few slashes for a URL \(did you mean s3://zoo/x\?\)"),
        ("gs:zoo/x", r"did you mean gs://zoo/x\?"),
        ("file:/data/x", r"did you mean file:///data/x\?"),
        ("s3:/KEY:hunter2@zoo/x", "too few slashes"),
        ("s3:KEY:hunter2@zoo/x", "too few slashes"),
    ],
)
def test_what_is_no_place_is_refused_without_its_secret(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        location.parse(text)
    assert "hunter2" not in f"{raised.value}{location.masked(text)}"
