"""Open a file where it is to run: on an execution provider, or in a runtime of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from converter.plugins import loader, providers
from converter.plugins.runnable import Interface, Runnable
from converter.worker.runtime import starting
from converter.worker.runtime.session import Session

# Distributions of ONNX Runtime: an installation has one of them.
_ONNX_RUNTIME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def opened(
    file: Path,
    interface: Callable[[], Interface],
    *,
    provider: str | None = None,
    optimise: bool = True,
    threads: int = 1,
    spins: bool = False,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Session | Runnable:
    """Load a file on a provider of ``converter.plugins.providers`` (``None``: the standard one).

    Args:
        interface: gives that of the ONNX file that this is, or was made from.
        optimise: all graph optimisations, or none; of ONNX Runtime alone, as ``spins`` is.
        provider_options: by the name of a provider what its ``Options`` are made of.

    Raises:
        StageError: EP_UNAVAILABLE, when the provider is not there or does not start; SESSION, when
            it refuses the file.
    """
    name = provider or providers.standard()
    plugin = starting.require(name, provider_options)
    if not providers.is_runtime(plugin):
        return Session(
            file,
            provider=name,
            optimise=optimise,
            threads=threads,
            spins=spins,
            provider_options=provider_options,
        )
    plugin.prepare()
    options = providers.options(plugin, (provider_options or {}).get(name, {}))
    return plugin.open(file, threads=threads, options=options, interface=interface())


def versions(provider: str, stated: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """What runs a provider's files, with its version: ``openvino 2026.4.1``."""
    plugin = providers.load(provider)
    if providers.is_elsewhere(plugin):
        return plugin.versions(providers.options(plugin, (stated or {}).get(provider, {})))
    found = []
    for name in loader.packages_of(plugin) or _ONNX_RUNTIME:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
