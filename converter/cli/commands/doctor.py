"""``python -m converter doctor``: what is installed, what is wrong with it, how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from converter.cli.arguments import Parser
from converter.display import notice
from converter.display.columns import Labelled
from converter.display.screen import Screen
from converter.doctor.checks import Finding, findings
from converter.doctor.facts import Facts, collect
from converter.doctor.trial import Trial
from converter.inspection.text import wrap
from converter.layout import landlock
from converter.model.errors import ExitCode, RunError
from converter.model.plaintext import readable_json
from converter.model.units import size
from converter.plan import opsets, request
from converter.plugins import loader
from converter.plugins.loader import Plugin
from converter.worker.runtime.probe import WORKER

SUMMARY = "versions, providers, opset ranges, known conflicts with their fixes; [--json]"

_LABEL = 11  # columns


def main(argv: Sequence[str]) -> int:
    """Look at the installation, convert one convolution, and print what is wrong.

    Raises:
        RunError: there is no room for temporary files.
    """
    parser = Parser(prog="python -m converter doctor", description=SUMMARY)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    notice.show("importing the libraries and converting a convolution …")
    facts = collect()
    trials = _trials(facts)
    notice.clear()
    found = findings(facts, trials)
    problems = sum(finding.level == "problem" for finding in found)
    if arguments.json:
        record = {
            "ok": problems == 0,
            "findings": [finding.model_dump() for finding in found],
            "trials": [trial.model_dump() for trial in trials],
            "facts": facts.model_dump(mode="json"),
            "plugins": [_listed(plugin) for plugin in loader.every()],
        }
        print(readable_json(record))
    else:
        screen = Screen(sys.stdout)
        described = Labelled(tuple(_describe(facts, trials, screen.width)), _LABEL)
        screen(described, "\n".join(_tell(found, screen.width)))
    return ExitCode.MODELS_FAILED if problems else ExitCode.OK


def _trials(facts: Facts) -> list[Trial]:
    if facts.probes[WORKER].error:
        return []  # what is broken has been found
    from converter.doctor import trial

    try:
        return trial.run()
    except OSError as error:
        raise RunError(f"no room for temporary files: {error}; TMPDIR chooses where") from error


def _describe(facts: Facts, trials: Sequence[Trial], width: int) -> Iterator[str]:
    here = facts.environment
    gpus = [f"{gpu.name}, driver {gpu.driver}" for gpu in here.gpus]
    packages = [f"{name} {version}" for name, version in here.packages.items() if version]
    runtime = facts.said("onnxruntime")
    spans = [(name, opsets.span(name, opsets.installed_torch())) for name in request.exporters()]
    added = [plugin for plugin in loader.every() if not plugin.built_in]
    rows = {
        "system": f"{here.os}, Python {here.python}",
        "python": sys.executable,
        "cpu": f"{here.cpu}, {here.cores} cores, {size(here.memory_bytes)}",
        "gpus": "; ".join(gpus) or "none",
        "packages": ", ".join(packages),
        "providers": ", ".join(runtime.get("providers", [])) or "not known",
        "opsets": ", ".join(f"{name} {low} to {high}" for name, (low, high) in spans)
        + f"; onnx knows {facts.said('onnx').get('opset', '?')}"
        + f", ONNX Runtime runs {runtime.get('opset', '?')}",
        "plugins": ", ".join(map(_plugin, added)) or "those of this package only",
        "outputs": f"{facts.outputs}, {size(facts.free_bytes)} free",
        "trusted": ", ".join(facts.trusted) or "no code but the registry and its libraries",
        "sandbox": _sandbox(facts),
        "imports": ", ".join(f"{n} {probe.seconds:.1f} s" for n, probe in facts.probes.items()),
        "trial": ", ".join(map(_outcome, trials)) or "not tried: the imports fail",
    }
    for label, text in rows.items():
        yield from wrap(text, f"{label:<{_LABEL}}", " " * _LABEL, width)


def _sandbox(facts: Facts) -> str:
    version = facts.environment.landlock
    if facts.no_sandbox or not version:
        return "none"
    kept = "files and network" if version >= landlock.OF_TCP else "files"
    return f"of {kept}, by Landlock {version}"


def _listed(plugin: Plugin) -> dict[str, str]:
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def _plugin(plugin: Plugin) -> str:
    kind = plugin.kind.removesuffix("s")
    return f"{kind} {plugin.name} of {plugin.distribution} {plugin.version}"


def _outcome(trial: Trial) -> str:
    outcome = "FAILED" if trial.error else f"verified in {trial.seconds:.1f} s"
    return f"a convolution by {trial.exporter}: {outcome}"


def _tell(found: Sequence[Finding], width: int) -> Iterator[str]:
    for finding in found:
        yield from wrap(f"{finding.message}.", f"{finding.level}: ", "    ", width)
        yield from wrap(f"fix: {finding.fix}", "    ", "        ", width)
    problems = sum(finding.level == "problem" for finding in found)
    yield f"{problems} problem{'s'[: problems > 1]}" if problems else "nothing is wrong"
