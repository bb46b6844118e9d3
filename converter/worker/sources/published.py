"""Published weights: torchvision's enums and timm's tags, through the libraries' own code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from converter.model.errors import Code, StageError
from converter.model.records import WeightsOrigin
from converter.plan import foresight
from converter.storage.downloads import LOCAL
from converter.worker.sources.checkpoint import hash_of
from converter.worker.sources.weightguard import only_tensors

Builder = Callable[..., Any]
Built = tuple[Any, str | None, WeightsOrigin | None]


@only_tensors()
def build(builder: Builder, kwargs: Mapping[str, Any], name: str) -> Built:
    """Build a model with its published weights.

    Args:
        name: ``DEFAULT``, ``IMAGENET1K_V1`` or ``ResNet18_Weights.IMAGENET1K_V1``; a tag of timm.

    Returns:
        The model, the SHA-256 of the downloaded file where that can be found, and what the library
        says of the weights.

    Raises:
        StageError: WEIGHTS_MISSING for an unknown name, WEIGHTS_DOWNLOAD, WEIGHTS_FORMAT for a
            damaged file in the cache, or WEIGHTS_UNSAFE for one that holds more than tensors.
    """
    # By the builder's own module: a target may reach it through another one.
    library = (getattr(builder, "__module__", None) or "").partition(".")[0]
    if library == "torchvision":
        return _torchvision(builder, kwargs, name)
    if library == "timm":
        return _timm(builder, kwargs, name)
    raise _unknown(name, builder, ())


def _torchvision(builder: Builder, kwargs: Mapping[str, Any], name: str) -> Built:
    weights = _enum_member(builder, kwargs, name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    cached = folder / Path(urlparse(weights.url).path).name
    # Before the builder reads it: a damaged file is told by its hash, not by what unpickling says.
    sha256 = _hash_of_cached(cached)
    with _downloading(weights.url, folder):
        model = builder(**{**kwargs, "weights": weights, "progress": False})
    # Not there before: the builder has downloaded it meanwhile.
    origin = WeightsOrigin(
        library="torchvision",
        url=weights.url,
        origin=weights.meta.get("recipe"),
        license=weights.meta.get("license"),
    )
    return model, sha256 or _hash_of_cached(cached), origin


def _enum_member(builder: Builder, kwargs: Mapping[str, Any], name: str) -> Any:
    from torchvision.models import WeightsEnum

    parameter = inspect.signature(builder).parameters.get("weights")
    annotation = parameter.annotation if parameter else None
    enums: list[Any] = [
        kind
        for kind in (annotation, *get_args(annotation))
        if isinstance(kind, type) and issubclass(kind, WeightsEnum)
    ]
    if not enums:
        raise _unknown(name, builder, ())
    # A quantised builder takes two enums: the quantised one, then that of the float model.
    enum = enums[0] if kwargs.get("quantize") else enums[-1]
    kind, _, member = name.rpartition(".")
    if kind not in ("", enum.__name__) or member not in enum.__members__:
        raise _unknown(name, builder, [f"{enum.__name__}.{known}" for known in enum.__members__])
    return enum[member]


def _hash_of_cached(path: Path) -> str | None:
    """Hash of a downloaded file, whose name holds the first digits of it."""
    if not path.is_file():
        return None
    sha256 = hash_of(path)
    # torch.hub checks that part of a name on a download only, never on a file in its cache.
    promised = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if promised and not sha256.startswith(promised[1]):
        raise StageError(
            Code.WEIGHTS_FORMAT,
            f"the downloaded weights {path} are damaged: sha256 {sha256[:12]}…, "
            f"expected {promised[1]}…",
            "Delete the file; the next run downloads it again.",
        )
    return sha256


def _timm(builder: Builder, kwargs: Mapping[str, Any], name: str) -> Built:
    # Imported here, since only timm needs it.
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg, list_pretrained

    architecture = builder.__name__
    known = [full.partition(".")[2] for full in list_pretrained(f"{architecture}.*")]
    tag = name.removeprefix(f"{architecture}.")
    if not known or tag not in (*known, "DEFAULT"):
        raise _unknown(name, builder, known)
    config: Any = get_pretrained_cfg(architecture if tag == "DEFAULT" else f"{architecture}.{tag}")
    if config.hf_hub_id:
        url, folder = f"{constants.ENDPOINT}/{config.hf_hub_id}", Path(constants.HF_HUB_CACHE)
    else:
        url, folder = str(config.url), Path(torch.hub.get_dir()) / "checkpoints"
    # Without a tag timm takes its own default.
    chosen = {"pretrained": True} | ({} if tag == "DEFAULT" else {"pretrained_cfg": tag})
    with _downloading(url, folder):
        model = builder(**{**kwargs, **chosen})
    # Of the hub its name alone: the address may be that of a mirror that is nobody else's business.
    origin = WeightsOrigin(
        library="timm",
        url=f"hf-hub:{config.hf_hub_id}" if config.hf_hub_id else url,
        origin=config.origin_url,
        license=config.license,
    )
    return model, _hash_of_timm(config, folder), origin


def _hash_of_timm(config: Any, folder: Path) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        return _hash_of_cached(folder / Path(urlparse(config.url).path).name)
    files = [config.hf_hub_filename] if config.hf_hub_filename else []
    for file in (*files, "model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(found, str):
            return hash_of(Path(found))
    return None


@contextmanager
def _downloading(url: str, folder: Path) -> Iterator[None]:
    """Name a failed download; a builder loads the weights from the cache if they are there."""
    try:
        yield
    except (OSError, HTTPException, RuntimeError) as error:
        # torch.hub tells a damaged download with a plain RuntimeError.
        if isinstance(error, RuntimeError) and "invalid hash value" not in str(error):
            raise
        if isinstance(error, OSError) and error.errno in LOCAL:
            raise
        reason = error.reason if isinstance(error, URLError) else error
        raise StageError(
            Code.WEIGHTS_DOWNLOAD,
            f"cannot download {url} into {folder}: {str(reason).splitlines()[0]}",
            "Check the network and its proxy, put the file into that folder by hand, "
            "or use weights: random.",
        ) from error


def _unknown(name: str, builder: Builder, choices: Sequence[str]) -> StageError:
    model = getattr(builder, "__name__", "the model")
    return foresight.no_weights(model, name, choices)
