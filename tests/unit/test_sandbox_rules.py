"""What a job may do to its machine, as it follows from the configuration and the kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from converter.config import rules as config_rules
from converter.config import standard
from converter.layout import landlock
from converter.layout.landlock import Offer
from converter.model.artifact import ONNX
from converter.model.batch import ExecutorSpec
from converter.model.errors import Code, ConfigError
from converter.model.job import Composed, Job
from converter.model.records import ErrorRecord, JobResult
from converter.plugins import executors
from converter.processes import limits, outcome, sandbox
from converter.processes.sandbox import Rules, Sandbox

WRITE, TRUNCATE, REFER = 1 << 1, 1 << 14, 1 << 13
SHA256 = "0" * 64


def job(**changes: Any) -> Job:
    plain: dict[str, Any] = {
        "name": "net", "source": {"registry": "single_conv"}, "inputs": {"x": {"shape": [1]}},
        "opset": 17, "exporters": ["torchscript"], "model_dir": "/run/models/net",
        "staging_dir": "/run/.staging/net",
    }  # fmt: skip
    return Job.model_validate({**plain, **changes})


def offers(monkeypatch: pytest.MonkeyPatch, version: int, reason: str = "") -> None:
    monkeypatch.setattr(landlock, "offered", lambda: Offer(version, reason))


# The kernel: Documentation/userspace-api/landlock.rst.


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [(1, WRITE, REFER | TRUNCATE), (2, WRITE | REFER, TRUNCATE), (3, WRITE | REFER | TRUNCATE, 0)],
)
def test_a_version_is_asked_for_the_rights_that_it_knows(
    version: int, has: int, lacks: int
) -> None:
    found = landlock.rights(version)
    assert (found & has, found & lacks) == (has, 0)


def test_reading_running_and_devices_are_never_given_up() -> None:
    execute, read_file, read_dir, ioctl = 1, 1 << 2, 1 << 3, 1 << 15
    assert landlock.rights(99) & (execute | read_file | read_dir | ioctl) == 0


def test_a_file_has_no_rights_of_folders() -> None:
    assert landlock.rights(7, folder=False) == WRITE | TRUNCATE


@pytest.mark.parametrize(
    ("version", "tcp", "expected"),
    [
        (3, True, (0, 0)),
        (4, True, (3, 0)),
        (4, False, (0, 0)),
        (6, True, (3, 3)),
        (7, False, (0, 3)),
    ],
)
def test_tcp_and_scopes_come_with_their_versions(
    version: int, tcp: bool, expected: tuple[int, int]
) -> None:
    assert landlock.ruleset(version, tcp=tcp)[1:] == expected


def test_the_first_version_is_of_no_use() -> None:
    assert landlock.judged(1).version == 0
    assert "Linux 5.19" in landlock.judged(1).reason
    assert landlock.judged(2) == Offer(2)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSYS, "has no Landlock"),
        (errno.EOPNOTSUPP, "switched off in this kernel"),
        (errno.EPERM, "refuses Landlock: Operation not permitted"),
    ],
)
def test_a_kernel_that_refuses_says_why(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuses(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(landlock, "_call", refuses)
    offer = landlock.offered.__wrapped__()
    assert offer.version == 0
    assert words in offer.reason


# The rules of a job.


def rules(given: Job, environ: dict[str, str], *writable: str) -> Rules:
    return sandbox.rules(given, Sandbox("auto", writable), "/tmp/job", environ)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_job_writes_to_its_own_folders_and_those_that_are_named(home: Path) -> None:
    found = rules(job(), {}, "/data/cache")
    own = {"/run/.staging/net", "/tmp/job", "/data/cache", str(home / ".cache"), "/dev/null"}
    assert own <= {*found.writable}
    assert not {"/", "/tmp", "/dev", "/run/models/net", str(home)} & {*found.writable}
    assert found.environ["TMPDIR"] == "/tmp/job"


def test_caches_are_where_variables_say_and_are_made(home: Path) -> None:
    stated = {"HF_HOME": str(home / "hf"), "TORCH_HOME": str(home / "a" / "torch")}
    found = rules(job(), {**stated, "XDG_CACHE_HOME": str(home / "own")})
    assert {*stated.values(), str(home / "own")} <= {*found.writable}
    assert all(Path(place).is_dir() for place in (*stated.values(), home / "own"))
    assert not (home / ".cache").exists()


def test_no_link_that_a_job_could_have_put_there_is_followed(home: Path) -> None:
    (home / ".cache").mkdir()
    (home / "elsewhere").mkdir()
    stated = {"HF_HOME": str(home / ".cache" / "hf"), "TORCH_HOME": str(home / ".cache" / "torch")}
    (home / ".cache" / "hf").symlink_to("../elsewhere")
    # One that lies where no job writes is the user's own, and leads into the cache here.
    (home / "hub").symlink_to(".cache/../.cache/hub")
    found = rules(job(), {**stated, "HF_HUB_CACHE": str(home / "hub" / "a")}, "/data")
    inside = [place for place in found.writable if place.startswith(str(home))]
    assert inside == [str(home / ".cache")]
    assert not (home / ".cache" / "torch").exists()
    assert "/data" in found.writable


def test_a_link_of_the_user_is_followed(home: Path) -> None:
    (home / "data").mkdir()
    (home / ".cache").symlink_to("data")
    found = rules(job(), {"HF_HOME": str(home / "data" / "hf")})
    assert [place for place in found.writable if place.startswith(str(home))] == [
        str(home / ".cache")
    ]


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert sandbox.outermost([str(tmp_path / "a")]) == [str(tmp_path / "a")]


def test_a_relative_variable_names_no_folder(home: Path) -> None:
    found = rules(job(), {"XDG_CACHE_HOME": "cache", "HF_HOME": "hf"})
    assert str(home / ".cache") in found.writable
    assert not {"cache", "hf"} & {*found.writable}


def test_caches_that_lie_elsewhere_are_led_to_the_folder_of_caches(home: Path) -> None:
    (home / ".triton").mkdir()
    found = rules(job(), {"CUDA_CACHE_PATH": "/data/nv"})
    # One was there before and stays, one is stated, one has no place yet.
    assert str(home / ".triton") in found.writable
    assert found.environ.keys() == {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR"}
    assert found.environ["TORCHINDUCTOR_CACHE_DIR"] == str(home / ".cache" / "torchinductor")


def test_without_a_home_what_would_be_kept_goes_with_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/proc/no/home")
    assert rules(job(), {}).environ["TRITON_CACHE_DIR"] == "/tmp/job/triton"


URL = {"path": "https://example.org/x.npy", "sha256": SHA256}
CASE = {"label": "real", "inputs": {"x": URL}}
CHECKPOINT = {"checkpoint": "https://example.org/net.pth", "sha256": SHA256}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"weights": "conditioned"}, False),
        ({"weights": {"checkpoint": "/net.pth"}}, False),
        ({"weights": "DEFAULT"}, True),
        ({"weights": CHECKPOINT}, True),
        ({"inputs": {"x": {"shape": [1], "path": "/x.npy"}}}, False),
        ({"inputs": {"x": {"shape": [1], **URL}}}, True),
        ({"verify": {"cases": [CASE]}}, True),
        ({"first": {"inputs": {"x": {"shape": [1], **URL}}}}, True),
    ],
)
def test_the_network_is_for_what_has_to_be_downloaded(
    home: Path, changes: dict[str, Any], expected: bool
) -> None:
    assert rules(job(**changes), {}).network is expected


def test_a_composition_needs_what_its_graphs_need(home: Path) -> None:
    graphs = {"encoder": job(), "decoder": job(weights="DEFAULT")}
    composed = Composed.model_validate({**dict(job()), "graphs": graphs})
    assert sandbox.needs_network(composed)


# What a row says.


def failed(message: str, hint: str = "the log has the rest") -> JobResult:
    error = ErrorRecord(
        stage="load", code=Code.LOAD, message=message, hint=hint, fingerprint="f" * 12
    )
    return JobResult(name="net", artifact=ONNX, status="failed", error=error)


def hint(message: str, *, network: bool = False, writable: tuple[str, ...] = ()) -> str:
    found = sandbox.explained(failed(message), Rules(writable, network))
    assert found.error is not None
    assert found.error.hint.endswith("the log has the rest")
    return found.error.hint.removesuffix("the log has the rest")


def test_a_refused_write_names_the_folder_to_allow(tmp_path: Path) -> None:
    said = hint(f"PermissionError: [Errno 13] Permission denied: '{tmp_path}/a' (net.py:3)")
    assert f"'executor.writable=[{tmp_path}]'), or write executor.sandbox=off; " in said
    # Of a file in a folder that was to be removed there is only the name.
    assert "'executor.writable=[FOLDER]'" in hint("PermissionError: Permission denied: 'precious'")
    said = hint(f"OSError: [Errno 18] Invalid cross-device link: '{tmp_path}/a' -> '/run/b'")
    assert f"'executor.writable=[{tmp_path}]'" in said


def test_a_folder_that_the_user_may_not_write_is_no_matter_of_the_sandbox(tmp_path: Path) -> None:
    assert hint("PermissionError: [Errno 13] Permission denied: '/proc/no/such/a'") == ""
    message = f"PermissionError: [Errno 13] Permission denied: '{tmp_path}/a'"
    assert hint(message, writable=(str(tmp_path),)) == ""


@pytest.mark.parametrize(
    ("message", "version", "network", "expected"),
    [
        ("PermissionError: [Errno 13] Permission denied", 4, False, True),
        ("OSError: We couldn't connect to 'https://example.org'", 4, False, True),
        ("OSError: We couldn't connect to 'https://example.org'", 4, True, False),
        ("OSError: We couldn't connect to 'https://example.org'", 3, False, False),
        ("ValueError: found 3, expected 4", 4, False, False),
    ],
)
def test_a_refused_connection_says_what_to_state(
    monkeypatch: pytest.MonkeyPatch, message: str, version: int, network: bool, expected: bool
) -> None:
    offers(monkeypatch, version)
    said = hint(message, network=network)
    assert said.startswith("executor.sandbox lets a job connect only where") is expected
    assert bool(said) is expected


def test_a_good_result_is_left_as_it_is() -> None:
    result = JobResult(name="net", status="ok")
    assert sandbox.explained(result, Rules((), False)) is result


# The configuration.


@pytest.mark.parametrize(
    ("stated", "expected"), [("auto", "auto"), ("off", "off"), (False, "off"), (True, "on")]
)
def test_yaml_may_read_on_and_off_as_booleans(stated: object, expected: str) -> None:
    assert standard.executor(sandbox=stated).sandbox == expected


def test_folders_are_those_of_the_place_where_the_command_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = limits.of(standard.executor(writable=["cache", "/data"])).sandbox
    assert found == Sandbox("auto", (str(tmp_path / "cache"), "/data"))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    spec = standard.spec(executor={"writable": [str(tmp_path), str(tmp_path / "no"), "/proc/.."]})
    said = [str(p) for p in config_rules.check(spec) if p.key.startswith("executor.")]
    assert said == [
        f"executor.writable.1: there is no {tmp_path}/no. Make it, or correct the path.",
        "executor.writable.2: /proc/.. is the whole machine. Name the folders, or write "
        "executor.sandbox=off.",
    ]


@pytest.mark.parametrize(
    ("executor", "mode", "version", "expected"),
    [
        ("process", "auto", 7, "files and network"),
        ("process", "on", 3, "files"),
        ("process", "auto", 0, "not offered"),
        ("process", "off", 7, "off"),
        ("inline", "auto", 7, "off"),
        ("slurm", "auto", 0, "of each node"),
        ("ray", "on", 0, "of each node"),
    ],
)
def test_a_run_says_what_its_jobs_are_kept_from(
    monkeypatch: pytest.MonkeyPatch, executor: str, mode: str, version: int, expected: str
) -> None:
    offers(monkeypatch, version, "" if version else "there is none")
    spec = ExecutorSpec.model_validate({"name": executor, "sandbox": mode})
    assert executors.sandboxed(spec) == expected


def test_a_fallback_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ExecutorSpec(name="process")
    offers(monkeypatch, 7)
    assert executors.unsandboxed(spec) == []
    offers(monkeypatch, 3)
    (said,) = executors.unsandboxed(spec)
    assert said.startswith("jobs may use the network: this kernel's version")
    offers(monkeypatch, 0, "there is none")
    assert executors.unsandboxed(spec) == ["jobs run without a sandbox: there is none"]
    assert executors.unsandboxed(ExecutorSpec(name="process", sandbox="off")) == []


@pytest.mark.parametrize(
    ("executor", "version", "words"),
    [("process", 0, "there is none"), ("inline", 7, "executor=inline runs jobs without one")],
)
def test_on_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, executor: str, version: int, words: str
) -> None:
    offers(monkeypatch, version, "" if version else "there is none")
    with pytest.raises(ConfigError, match=f"executor.sandbox: found on, and {words}"):
        executors.check(ExecutorSpec(name=executor, sandbox="on"))
    executors.check(ExecutorSpec(name=executor))


def test_a_node_without_one_starts_nothing_where_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    offers(monkeypatch, 0, "there is none")
    assert Sandbox("auto").refusal == ""
    assert not Sandbox("auto").applies
    reason = Sandbox("on").refusal
    result = outcome.unsandboxed(job(), reason)
    assert result.error is not None
    assert (result.error.code, result.error.stage) == (Code.NO_NODE, None)
    assert result.error.message == "executor.sandbox is on, and there is none"
    assert "executor.sandbox=auto" in result.error.hint
