"""``doctor``: each conflict, from facts, from packages on the path, from processes that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converter.cli import command_line
from converter.cli.commands import doctor
from converter.doctor import checks, facts
from converter.doctor.facts import Facts, Probe, Unmet
from converter.doctor.trial import Trial
from converter.model.errors import ExitCode
from converter.model.manifest import Environment, Gpu

SAID: dict[str, dict[str, Any]] = {
    "torch": {"cuda_build": "13.0", "cuda_available": False, "devices": []},
    "torchvision": {"version": "0.29.2"},
    "onnx": {"opset": 28},
    "onnxruntime": {"providers": ["CPUExecutionProvider"], "opset": 26},
}
GPU = Gpu(name="Board", memory_bytes=1 << 36, driver="570.1")


def sound(**changes: Any) -> Facts:
    """A machine where nothing is wrong, but for ``changes``."""
    packages = {"torch": "2.15.0", "torchvision": "0.29.2"}
    here = Environment(
        os="Linux", python="3.11.7", cpu="cpu", cores=2, memory_bytes=1 << 34, packages=packages,
        landlock=7,
    )  # fmt: skip
    values: dict[str, Any] = {
        "environment": here,
        "runtimes": ["onnxruntime"],
        "unmet": [],
        "torch_for_cuda": True,
        "address_space": None,
        "outputs": "/srv/outputs",
        "outputs_error": "",
        "free_bytes": 1 << 36,
        "trusted": [],
        "astray": [],
        "probes": {"worker": Probe(seconds=3.0, values=SAID)},
    }
    return Facts(**{**values, **changes})


def broken(library: str, error: str) -> dict[str, Probe]:
    return {"worker": Probe(seconds=1, error=error), library: Probe(seconds=1, error=error)}


def with_cuda(missing: list[str] | None = None, **runtime: Any) -> dict[str, Probe]:
    torch = {**SAID["torch"], "cuda_available": True, "devices": ["Board"]}
    values = {**SAID, "torch": torch, "onnxruntime": {**SAID["onnxruntime"], **runtime}}
    return {"worker": Probe(seconds=1, values=values, missing=missing or [])}


def with_landlock(version: int) -> Environment:
    return sound().environment.model_copy(update={"landlock": version})


CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "both runtimes": (
        {"runtimes": ["onnxruntime", "onnxruntime-gpu"]},
        "onnxruntime and onnxruntime-gpu are both installed",
        "python -m pip uninstall -y onnxruntime onnxruntime-gpu; then ",
    ),
    "no runtime": ({"runtimes": []}, "ONNX Runtime is not installed", "-e '.[cpu]' (or '.[gpu]')"),
    "hydra": (
        {"unmet": [Unmet(package="ours 0.1", needs="hydra-core<1.4,>=1.3.2", found="1.4.0")]},
        "ours 0.1 needs hydra-core<1.4,>=1.3.2, and 1.4.0 is installed",
        "python -m pip install -c constraints.txt 'hydra-core<1.4,>=1.3.2'",
    ),
    "torch and torchvision": (
        {"probes": broken("torchvision", "RuntimeError: operator torchvision::nms does not exist")},
        "torch 2.15.0 and torchvision 0.29.2 are builds that do not belong together",
        "python -m pip uninstall -y torch torchvision; then install both in one command",
    ),
    "a library": (
        {"probes": broken("onnx", "ImportError: no such symbol")},
        "onnx cannot be imported: ImportError: no such symbol",
        "--force-reinstall onnx",
    ),
    "only the worker": (
        {"probes": {"worker": Probe(seconds=1, error="ImportError: x")}},
        "what a worker imports cannot be imported: ImportError: x",
        "--force-reinstall torch onnx",
    ),
    "outputs": (
        {"outputs_error": "/srv is not writable"},
        "runs cannot be written to /srv/outputs: /srv is not writable",
        "give hydra.run.dir=DIR",
    ),
    "disk": ({"free_bytes": 1 << 20}, "1.05 MB are free where runs go", "free some space"),
    "trust": (
        {"trusted": ["/nope"], "astray": ["/nope"]},
        "CONVERTER_TRUST lists '/nope', and there is no such folder or module here",
        "take it out of CONVERTER_TRUST",
    ),
    "cuda libraries": (
        {
            "probes": with_cuda(
                ["libcudnn.so.9"], providers=CUDA, failures={"cuda": "fell back to the CPU"}
            )
        },
        "ONNX Runtime has cuda and cannot use it: fell back to the CPU; missing: libcudnn.so.9",
        "the libraries of CUDA and cuDNN with the extra `gpu`",
    ),
}
NOTES: dict[str, tuple[dict[str, Any], str, str]] = {
    "address space": (
        {"address_space": 4 << 30},
        "the address space is limited to 4.29 GB (ulimit -v)",
        "ulimit -v unlimited; executor.memory_mb limits the memory of a job",
    ),
    "no sandbox": (
        {"no_sandbox": "this kernel has no Landlock, or the container hides it"},
        "jobs run without a sandbox: this kernel has no Landlock",
        "executor.sandbox=on refuses to run",
    ),
    "network": (
        {"environment": with_landlock(3)},
        "jobs may use the network: this kernel's version of Landlock has no rules of TCP",
        "a network that lets them reach only what they may",
    ),
    "trust twice": ({"trusted": ["a", "a"]}, "lists 'a' 2 times", "once is enough"),
    "cpu runtime": (
        {"probes": with_cuda()},
        "torch sees a GPU, but the installed ONNX Runtime is a CPU build",
        "-e '.[gpu]'",
    ),
    "opsets": (
        {"probes": with_cuda(providers=CUDA, opset=24)},
        "dynamo writes opsets up to 25, this ONNX Runtime runs 24",
        "ask for opset 24 or lower",
    ),
    "driver": (
        {"environment": sound().environment.model_copy(update={"gpus": [GPU]})},
        "there is a GPU, but torch is built for CUDA 13.0, and the driver cannot use it",
        "upgrade the driver",
    ),
}


def test_a_sound_installation_has_no_findings() -> None:
    trials = [Trial(exporter="torchscript", seconds=1.0)]
    assert checks.findings(sound(), trials) == []
    assert checks.findings(sound(probes=with_cuda(providers=CUDA)), trials) == []


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_has_its_fix(case: str) -> None:
    changes, message, fix = PROBLEMS[case]
    (found,) = checks.findings(sound(**changes), [])
    assert found.level == "problem"
    assert message in found.message
    assert fix in found.fix


@pytest.mark.parametrize("case", NOTES)
def test_a_note_is_no_problem(case: str) -> None:
    changes, message, fix = NOTES[case]
    found = checks.findings(sound(**changes), [])
    assert {finding.level for finding in found} == {"note"}
    assert message in found[0].message
    assert fix in found[0].fix


def test_onnx_runtime_is_asked_although_torch_sees_no_gpu() -> None:
    """A CPU build of torch beside an ONNX Runtime for CUDA."""
    environment = sound().environment.model_copy(update={"gpus": [GPU]})
    said = {"providers": CUDA, "failures": {"cuda": "did not start"}}
    values = {**SAID, "onnxruntime": {**SAID["onnxruntime"], **said}}
    probes = {"worker": Probe(seconds=1, values=values, missing=["libcurand.so.10"])}
    found = checks.findings(sound(environment=environment, probes=probes), [])
    assert [finding.level for finding in found] == ["problem", "note"]
    assert "missing: libcurand.so.10" in found[0].message
    # Without a GPU there is nothing to mend.
    assert checks.findings(sound(probes=probes), []) == []


def test_a_failed_import_under_a_limit_of_the_address_space_is_a_problem() -> None:
    probes = {"worker": Probe(seconds=1, error="ImportError: failed to map segment")}
    (found,) = checks.findings(sound(address_space=4 << 30, probes=probes), [])
    assert found.level == "problem"
    assert found.message.endswith("the import of a CUDA build of torch fails")
    assert found.fix.startswith("ulimit -v unlimited")


def test_a_cpu_build_of_torch_needs_no_address_space() -> None:
    assert checks.findings(sound(address_space=4 << 30, torch_for_cuda=False), []) == []


def test_a_trial_that_fails_is_a_problem() -> None:
    old = Trial(exporter="dynamo", seconds=1, error="EXPORT: ImportError: onnxscript is too old")
    lame = Trial(exporter="torchscript", seconds=1, simplifier_error="onnxsim: killed")
    first, second = checks.findings(sound(), [old, lame])
    assert first.message.startswith("dynamo cannot convert a single convolution: EXPORT: Import")
    assert first.fix.endswith("--upgrade onnx onnxscript onnx-ir")
    assert "the simplifier fails on a single convolution: onnxsim: killed" in second.message
    assert "simplifier=onnxslim" in second.fix


# What is installed, from metadata on the path


def install(site: Path, name: str, version: str, module: str = "", *requires: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    (folder / "top_level.txt").write_text(f"{module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before the installed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_packages_that_bring_onnxruntime_are_found(site: Path) -> None:
    install(site, "onnxruntime-gpu", "1.31.1", "onnxruntime")
    install(site, "onnxruntime", "1.31.1", "onnxruntime")
    assert facts.runtimes() == ["onnxruntime", "onnxruntime-gpu"]


def test_versions_that_do_not_fit_are_found(site: Path) -> None:
    wants = ("hydra-core<1.4,>=1.3.2", "absent-package", 'other>9; extra == "gpu"')
    install(site, facts.OURS, "0.1.0", "converter", *wants)
    install(site, "hydra-core", "1.4.0", "hydra")
    install(site, "torch", "2.14.1+cpu", "torch")
    install(site, "torchvision", "0.29.2", "torchvision", "torch==2.15.0")
    found = list(facts.unmet())
    ours = f"{facts.OURS} 0.1.0"
    assert Unmet(package=ours, needs="hydra-core<1.4,>=1.3.2", found="1.4.0") in found
    assert Unmet(package=ours, needs="absent-package", found=None) in found
    torch = Unmet(package="torchvision 0.29.2", needs="torch==2.15.0", found="2.14.1+cpu")
    assert torch in found
    assert not any("other" in unmet.needs for unmet in found)


# What imports say, from real processes


def module(site: Path, name: str, text: str) -> None:
    (site / f"{name}.py").write_text(text)


def test_a_library_that_raises(site: Path) -> None:
    module(site, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    probe = facts.probe("torchvision")
    assert probe.error == "RuntimeError: operator torchvision::nms does not exist"


def test_a_library_that_works(site: Path) -> None:
    module(site, "torchvision", "print('hello'); __version__ = '1.2'")
    probe = facts.probe("torchvision")
    assert (probe.error, probe.values) == ("", {"torchvision": {"version": "1.2"}})


def test_a_shared_library_that_is_missing_is_named(site: Path) -> None:
    text = "libcudnn.so.9: cannot open shared object file: No such file or directory"
    module(site, "torchvision", f"raise ImportError('{text}')")
    assert facts.probe("torchvision").missing == ["libcudnn.so.9"]


def test_a_library_that_kills_or_hangs(site: Path) -> None:
    module(site, "torchvision", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert facts.probe("torchvision").error == "killed by SIGSEGV"
    module(site, "torchvision", "import time; time.sleep(600)")
    assert facts.probe("torchvision", timeout_s=0.5).error == "timed out after 0.5 s"


def test_trust_that_leads_nowhere(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "mine").mkdir()
    module(site / "mine", "inner", "")
    monkeypatch.setattr(facts, "_probes", dict)
    monkeypatch.setenv("CONVERTER_TRUST", "./mine:json.decoder:inner:./nope:no_such_module")
    assert facts.collect().astray == [str(site / "nope"), "no_such_module"]


def test_an_outputs_folder_that_cannot_be(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_probes", dict)
    assert facts.collect().outputs_error == ""
    (site / "outputs").write_text("")
    assert facts.collect().outputs_error == f"{site / 'outputs'} is no folder"


# The verb


@pytest.fixture
def torn(site: Path) -> None:
    """An installation in which torchvision does not fit torch, and the rest imports at once."""
    for name in ("torch", "onnx", "onnxruntime"):
        module(site, name, "raise ImportError('torn too')")
    module(site, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")


@pytest.mark.usefixtures("torn")
def test_a_problem_is_exit_1_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["doctor"]) == ExitCode.MODELS_FAILED
    out = capsys.readouterr().out
    assert all(len(line) <= 80 or "/" in line for line in out.splitlines())  # a path is whole
    text = " ".join(out.split())
    assert "do not belong together (RuntimeError: operator torchvision::nms does not" in text
    assert "fix: python -m pip uninstall -y torch torchvision;" in text
    assert "trial not tried: the imports fail" in text


@pytest.mark.usefixtures("torn")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["doctor", "--json"]) == ExitCode.MODELS_FAILED
    record = json.loads(capsys.readouterr().out)
    assert not record["ok"]
    assert record["trials"] == []
    assert record["findings"][0].keys() == {"level", "message", "fix"}
    assert record["facts"]["environment"]["packages"]["pydantic"]


def test_nothing_wrong_is_exit_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(exporter="torchscript", seconds=1.0)
    monkeypatch.setattr(doctor, "collect", lambda: sound(trusted=["a", "a"]))
    monkeypatch.setattr(doctor, "_trials", lambda _: [trial])
    assert command_line.main(["doctor"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "note: CONVERTER_TRUST lists 'a' 2 times.", "    fix: once is enough", "nothing is wrong",
    ]  # fmt: skip
    assert "trial      a convolution by torchscript: verified in 1.0 s" in lines
    assert "sandbox    of files and network, by Landlock 7" in lines
