"""What the facts mean: each check is a function of them that yields findings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from converter.config import standard
from converter.doctor.facts import Facts
from converter.doctor.trial import Trial
from converter.layout import landlock, trust
from converter.model.base import Frozen
from converter.model.errors import ConfigError
from converter.model.units import size
from converter.plan import opsets, request
from converter.plugins import loader, providers
from converter.plugins.providers import Provider
from converter.worker.runtime.probe import WORKER

_GIB = 1 << 30
_ADDRESS_SPACE = 6 * _GIB  # what a CUDA build of torch 2.15 may reserve at import
_DISK = 1 * _GIB
# What an import says that found no room for a library.
_NO_MEMORY = re.compile("failed to map segment|MemoryError|[Cc]annot allocate memory")
# With the versions that were tested together.
_PINNED = "python -m pip install -c constraints.txt"


class Finding(Frozen):
    """Attributes: level: only a problem makes the exit code 1."""

    level: Literal["problem", "note"]
    message: str
    fix: str


def findings(facts: Facts, trials: Sequence[Trial]) -> list[Finding]:
    """All that is wrong or worth knowing, problems first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    found += [finding for trial in trials for finding in _trial(trial)]
    return sorted(found, key=lambda finding: finding.level != "problem")


def _runtimes(facts: Facts) -> Iterator[Finding]:
    if not facts.runtimes:
        fix = f"{_PINNED} -e '.[cpu]' (or '.[gpu]')"
        yield _problem("ONNX Runtime is not installed", fix)
    elif len(facts.runtimes) > 1:
        names = " and ".join(facts.runtimes)
        yield _problem(
            f"{names} are both installed: they write into the same folder and break each other",
            f"python -m pip uninstall -y {' '.join(facts.runtimes)}; then {_PINNED} the one you "
            "want, or better, start a fresh environment",
        )


def _requirements(facts: Facts) -> Iterator[Finding]:
    for unmet in facts.unmet:
        found = f"{unmet.found} is installed" if unmet.found else "it is not installed"
        message = f"{unmet.package} needs {unmet.needs}, and {found}"
        yield _problem(message, f"{_PINNED} '{unmet.needs}'")


def _imports(facts: Facts) -> Iterator[Finding]:
    packages = facts.environment.packages
    broken = {name: probe for name, probe in facts.probes.items() if probe.error}
    for name, probe in broken.items():
        if name == WORKER and len(broken) > 1:
            continue  # the library that it is about is named
        if _is_limited(facts) and _NO_MEMORY.search(probe.error):
            continue  # the limit is
        # What torchvision 0.29 says beside a torch of another build: its own operators were not
        # registered.
        if name == "torchvision" and "torchvision::nms" in probe.error:
            versions = f"torch {packages['torch']} and torchvision {packages['torchvision']}"
            yield _problem(
                f"{versions} are builds that do not belong together ({probe.error}): "
                "a CPU build of the one and a CUDA build of the other",
                "python -m pip uninstall -y torch torchvision; then install both in one command "
                f"from one index: {_PINNED} torch torchvision",
            )
        else:
            what = "what a worker imports" if name == WORKER else name
            yield _problem(
                f"{what} cannot be imported: {probe.error}",
                f"{_PINNED} --force-reinstall {'torch onnx' if name == WORKER else name}",
            )


def _limits(facts: Facts) -> Iterator[Finding]:
    if not _is_limited(facts):
        return
    failed = bool(facts.probes[WORKER].error)
    yield Finding(
        level="problem" if failed else "note",
        message=f"the address space is limited to {size(facts.address_space or 0)} (ulimit -v): "
        "below about 6 GB the "
        f"import of a CUDA build of torch {'fails' if failed else 'may fail, as may large models'}",
        fix="ulimit -v unlimited; executor.memory_mb limits the memory of a job",
    )


def _is_limited(facts: Facts) -> bool:
    space = facts.address_space
    return space is not None and space < _ADDRESS_SPACE and facts.torch_for_cuda


def _folders(facts: Facts) -> Iterator[Finding]:
    if facts.outputs_error:
        yield _problem(
            f"runs cannot be written to {facts.outputs}: {facts.outputs_error}",
            "start in another folder, or give hydra.run.dir=DIR",
        )
    if facts.free_bytes < _DISK:
        yield _problem(
            f"{size(facts.free_bytes)} are free where runs go ({facts.outputs})",
            "free some space, or give hydra.run.dir=DIR",
        )


def _trusted(facts: Facts) -> Iterator[Finding]:
    for entry in facts.astray:
        yield _problem(
            f"{trust.VARIABLE} lists '{entry}', and there is no such folder or module here",
            f"correct it, or take it out of {trust.VARIABLE}",
        )
    for entry, count in Counter(facts.trusted).items():
        if count > 1:
            message = f"{trust.VARIABLE} lists '{entry}' {count} times"
            yield Finding(level="note", message=message, fix="once is enough")


def _sandbox(facts: Facts) -> Iterator[Finding]:
    # Notes: the code is trusted, and `auto` runs it all the same.
    if facts.no_sandbox:
        yield Finding(
            level="note",
            message=f"jobs run without a sandbox: {facts.no_sandbox}",
            fix="use a kernel that has it; executor.sandbox=on refuses to run where there is none",
        )
    elif facts.environment.landlock < landlock.OF_TCP:
        yield Finding(
            level="note",
            message=f"jobs may use the network: {landlock.NO_TCP}",
            fix="use such a kernel, or a network that lets them reach only what they may",
        )


def _opsets(facts: Facts) -> Iterator[Finding]:
    runs = facts.said("onnxruntime").get("opset")
    if runs is None:
        return
    for exporter in request.exporters():
        writes = opsets.span(exporter, opsets.installed_torch())[1]
        if writes > runs:
            yield Finding(
                level="note",
                message=f"{exporter} writes opsets up to {writes}, this ONNX Runtime runs {runs}",
                fix=f"ask for opset {runs} or lower, or upgrade onnxruntime",
            )


def _gpus(facts: Facts) -> Iterator[Finding]:
    torch, runtime = facts.said("torch"), facts.said("onnxruntime")
    failures: dict[str, str] = runtime.get("failures", {})
    built = runtime.get("providers", [])
    has_provider = any(provider.NAME in built for provider in _for_devices())
    if not torch:
        return
    # Notes and no problems: conversion and verification need no GPU.
    if not torch["cuda_available"]:
        if facts.environment.gpus:
            build = torch["cuda_build"]
            message = f"torch is built for CUDA {build}, and the driver" if build else "torch"
            yield Finding(
                level="note",
                message=f"there is a GPU, but {message} cannot use it",
                fix="upgrade the driver, or install the torch for its CUDA version"
                if build
                else f"install the CUDA build: {_PINNED} --force-reinstall torch torchvision",
            )
    elif runtime and not has_provider:
        yield Finding(
            level="note",
            message="torch sees a GPU, but the installed ONNX Runtime is a CPU build",
            fix=f"in a fresh environment: {_PINNED} -e '.[gpu]'",
        )
    # Without a GPU it cannot start and need not. With one, somebody installed the GPU build to use
    # it.
    if not facts.environment.gpus and not torch["cuda_available"]:
        return
    for name, failure in failures.items():
        missing = facts.probes[WORKER].missing
        names = f"; missing: {', '.join(missing)}" if missing else ""
        yield _problem(
            f"ONNX Runtime has {name} and cannot use it: {failure}{names}",
            f"in a fresh environment: {_PINNED} -e '.[gpu]'; {providers.load(name).LOAD_HINT}",
        )


def _for_devices() -> list[Provider]:
    """The providers of this package whose tensors are on a device."""
    found = [providers.load(p.name) for p in loader.found("providers").values() if p.built_in]
    return [provider for provider in found if provider.DEVICE != "cpu"]


def _trial(trial: Trial) -> Iterator[Finding]:
    if trial.error:
        older = any(name in trial.error for name in ("onnxscript", "onnx_ir"))
        yield _problem(
            f"{trial.exporter} cannot convert a single convolution: {trial.error}",
            f"{_PINNED} --upgrade onnx onnxscript onnx-ir"
            if older
            else f"install the tested versions: {_PINNED} --upgrade torch torchvision onnx",
        )
    if trial.simplifier_error:
        used = standard.spec().simplifier.name
        others = [f"simplifier={name}" for name in loader.names("simplifiers") if name != used]
        packages = loader.packages_of(loader.load("simplifiers", used))
        yield _problem(
            f"the simplifier fails on a single convolution: {trial.simplifier_error}",
            f"{_PINNED} --force-reinstall {' '.join(packages)}, or {', '.join(others)}",
        )


def _problem(message: str, fix: str) -> Finding:
    return Finding(level="problem", message=message, fix=fix)


def _plugins(facts: Facts) -> Iterator[Finding]:
    """Plugins of other distributions that would be refused where a run asks for them."""
    for plugin in loader.every():
        if plugin.built_in or plugin.kind in ("models", "configs"):
            continue
        try:
            plugin.load()
        except ConfigError as error:
            yield from (_problem(f"{p.key}: {p.message}", p.hint) for p in error.problems)


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _runtimes, _requirements, _imports, _limits, _folders, _trusted, _sandbox, _opsets,
    _gpus, _plugins,
)  # fmt: skip
