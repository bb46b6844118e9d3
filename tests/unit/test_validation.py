"""Rows 6, 7, 9 and 14-16 of the fault list: what the typed layer says."""

from __future__ import annotations

from typing import Any

import pytest

from converter.config import standard
from converter.config.validation import parse
from converter.model.batch import BatchSpec
from converter.model.errors import ConfigError
from converter.model.source import Source
from converter.model.spec import ModelSpec, OpsetRange, VariantSpec
from converter.plan import variants
from converter.plugins import loader

BASE: dict[str, Any] = {"source": "conv_bn_relu"}


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config)
    return [str(problem) for problem in caught.value.problems]


def of_model(**keys: Any) -> list[str]:
    return problems({"models": {"m": BASE | keys}})


def of_run(**keys: Any) -> list[str]:
    return problems({"models": {"m": BASE}} | keys)


def accepted(**keys: Any) -> Any:
    return parse({"models": {"m": BASE | keys}}).models["m"]


def test_a_plain_configuration_is_typed() -> None:
    spec = parse({"opset": 18, "models": {"m": BASE | {"dynamic_axes": {"input": {0: "b"}}}}})
    assert isinstance(spec, BatchSpec)
    assert spec.models["m"].source is not None
    assert spec.models["m"].source.registry == "conv_bn_relu"
    assert spec.models["m"].dynamic_axes == {"input": {0: "b"}}


# Unknown keys (row 6)


def test_an_unknown_key_names_the_nearest_at_every_level() -> None:
    found = problems(
        {
            "opst": 3,
            "executor": {"worker": 2},
            "models": {
                "m": BASE
                | {
                    "opsett": 1,
                    "verify": {"rtoll": 1.0},
                    "inputs": {"x": {"shape": [1], "dtyp": "float32"}},
                    "weights": {"checkpoint": "a", "strip": "b"},
                }
            },
        }
    )
    assert found[0] == "opst: unknown key. Did you mean opset?"
    assert set(found[1:]) == {
        "executor.worker: unknown key. Did you mean workers?",
        "models.m.opsett: unknown key. Did you mean opset?",
        "models.m.verify.rtoll: unknown key. Did you mean rtol or atol?",
        "models.m.inputs.x.dtyp: unknown key. Did you mean dtype?",
        "models.m.weights.strip: unknown key. Did you mean strip_prefix?",
    }


def test_variants_are_a_list_of_names_or_a_mapping() -> None:
    models = {"m": BASE, "n": BASE | {"variants": {"fp16": {"optional": True}}}}
    listed = parse({"models": models, "variant": ["fp16"]})
    assert listed.variant == {"fp16": VariantSpec()}
    asked = {name: variants.stated(listed, model) for name, model in listed.models.items()}
    assert [spec["fp16"].optional for spec in asked.values()] == [False, True]
    assert problems({"models": models, "variant": ["fp61"]}) == [
        f"variant.fp61: found 'fp61'; expected {' or '.join(loader.names('variants'))}. "
        "Did you mean fp16?"
    ]
    assert "expected" in problems({"models": models, "variant": [1]})[0]


def test_an_unknown_key_with_no_neighbour_lists_the_known() -> None:
    assert of_model(verify={"zzz": 1}) == [
        "models.m.verify.zzz: unknown key. Known: rtol, atol, shapes, cases, reference, mutations, "
        "budget, unreached, providers."
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("verbose", "Not offered: all that an exporter prints is in the model's log.txt, and"),
        ("operator_export_type", "Not offered: torch supports ONNX alone here"),
        ("export_modules_as_functions", "Not offered: torch deprecates it, dynamo ignores it"),
        ("do_constant_folding", "Write export.constant_folding."),
        ("opset_version", "Write opset, of the run or of the model."),
    ],
)
def test_an_argument_of_torchs_export_is_refused_with_what_does_it(name: str, hint: str) -> None:
    for found, key in (
        (of_model(export={name: True}), f"models.m.export.{name}"),
        (of_model(**{name: True}), f"models.m.{name}"),
        (of_run(**{name: True}), name),
        (
            of_run(exporter={"name": "torchscript", "options": {"torchscript": {name: True}}}),
            f"exporter.options.torchscript.{name}",
        ),
    ):
        assert len(found) == 1
        assert found[0].startswith(f"{key}: unknown key. {hint}"), found


# Wrong types (row 7), opsets (row 16)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"simplify": "yes"}, "simplify: found 'yes'; expected true or false."),
        ({"simplify": 1}, "simplify: found 1; expected true or false."),
        ({"inputs": [1]}, "inputs: found a list; expected a mapping."),
        ({"outputs": "y"}, "outputs: found 'y'; expected a list"),
        ({"weights": 3}, "weights: found 3; expected text or a mapping of checkpoint"),
        ({"source": 3}, "source: found 3; expected a registry name or a mapping of"),
        ({"verify": None}, "verify: found null; expected a mapping of rtol"),
        (
            {"dynamic_axes": {"input": ["a"]}},
            "dynamic_axes.input.0: found 'a'; expected a whole number.",
        ),
        ({"dynamic_axes": {"input": {"z": "b"}}}, "found the key 'z'; expected a whole number."),
        ({"inputs": {"x": {"shape": [1, -1]}}}, "found -1; expected a whole number of 0 or more."),
        ({"inputs": {"x": {}}}, "models.m.inputs.x.shape: is missing; expected a list"),
        ({"source": {"file": "a.py"}}, "'file' and 'name' belong together"),
        ({"training": "evl"}, "found 'evl'; expected eval or train. Did you mean eval?"),
    ],
)
def test_a_wrong_type_names_key_found_and_expected(keys: dict[str, Any], message: str) -> None:
    found = of_model(**keys)
    assert len(found) == 1
    assert found[0].startswith("models.m.")
    assert message in found[0]


@pytest.mark.parametrize("opset", [0, -1, 99, "latest", "17", 17.0, True])
def test_an_opset_out_of_range_names_the_range(opset: object) -> None:
    assert "expected a whole number from 7 to 25" in of_run(opset=opset)[0]
    assert "expected a whole number from 7 to 25" in of_model(opset=opset)[0]


def test_an_opset_range_names_its_own_keys() -> None:
    found = of_model(opset={"min": 3, "maxi": 17})
    assert found == [
        "models.m.opset.min: found 3; expected a whole number from 7 to 25.",
        "models.m.opset.maxi: unknown key. Did you mean max?",
    ]
    assert of_model(opset={"min": 18, "max": 13}) == ["models.m.opset: min (18) is above max (13)."]
    assert accepted(opset={"min": 13}).opset == OpsetRange(min=13)


def test_workers_are_a_number_or_auto() -> None:
    message = "executor.workers: found 'many'; expected a whole number from 1 to 1024 or auto."
    assert of_run(executor={"workers": "many"}) == [message]


# Tolerances (row 9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, -1e-9])
def test_a_tolerance_is_finite_and_not_negative(value: float) -> None:
    for key in ("rtol", "atol"):
        (message,) = of_model(verify={key: value})
        assert message.startswith(f"models.m.verify.{key}: found ")
        (message,) = of_run(verify={key: value})
        assert message.startswith(f"verify.{key}: found ")


def test_nothing_that_json_cannot_carry_reaches_a_worker() -> None:
    (message,) = of_model(constants={"scale": float("inf")})
    assert message == "models.m.constants.scale: found inf; expected a finite number."
    (message,) = of_model(tags=["\udc80"])
    assert "expected UTF-8 text" in message
    (message,) = of_model(kwargs={"data": b"x"})
    assert message.startswith("models.m.kwargs.data: found b'x'; expected text, a number")


# Names (rows 14, 15)


def test_names_that_differ_only_in_case_or_unicode_form_are_both_named() -> None:
    (message,) = problems({"models": {"Net": BASE, "net": BASE}})
    assert "'Net' and 'net' differ only in case or Unicode form. Rename one." in message
    found = problems({"models": {"fi": BASE, "ﬁ": BASE}})
    assert any("'fi' and 'ﬁ' differ only" in message for message in found)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\0b", "a" * 300, "", ".hidden", "-x", "a b"])
def test_an_unsafe_name_is_told_the_rule(name: str) -> None:
    (message,) = problems({"models": {name: BASE}})
    assert "a model's name is made of letters, digits, '.', '_' and '-'" in message
    assert "at most 120 characters" in message
    assert len(message) < 300


# All at once


def test_every_problem_is_told_at_once_and_once() -> None:
    found = problems(
        {
            "opset": "x",
            "select": ["zz"],
            "models": {"a b": BASE, "m": BASE | {"simplify": 3}, "n": {"source": "nope"}},
        }
    )
    keys = [message.split(":")[0] for message in found]
    assert keys == ["opset", "models", "models.m.simplify", "models.n.source", "select"]


@pytest.mark.parametrize("models", [3, [1], "x", None])
def test_models_is_a_mapping(models: object) -> None:
    (message,) = problems({"models": models})
    assert message.endswith("expected a mapping of names to models.")


def test_a_number_that_no_decimal_can_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed: found a whole number of 16000 bits; at most 64"):
        parse({"seed": int("f" * 4000, 16), "models": {"a": {"source": "srcnn"}}})


# The short form


def test_a_registry_name_alone_is_the_source() -> None:
    spec = parse({"models": {"a": "torchvision/resnet18", "b": {"source": "srcnn"}}})
    long = parse({"models": {"a": {"source": "torchvision/resnet18"}, "b": {"source": "srcnn"}}})
    assert spec == long
    # As `converter.schemas` describes it.
    typed = standard.spec(models={"a": "torchvision/resnet18"})
    assert typed.models["a"] == ModelSpec(source=Source(registry="torchvision/resnet18"))


def test_a_name_that_the_registry_lacks_is_told_of_the_short_form_too() -> None:
    (message,) = problems({"models": {"m": "srcn"}})
    assert message.startswith("models.m.source: the registry has no 'srcn'. Did you mean srcnn")


# Choices of other tools


@pytest.mark.parametrize(
    ("dtype", "meant"), [("fp16", "float16"), ("double", "float64"), ("long", "int64")]
)
def test_a_dtype_by_the_name_that_others_give_it(dtype: str, meant: str) -> None:
    (message,) = of_model(inputs={"x": {"shape": [1], "dtype": dtype}})
    assert message.endswith(f" Did you mean {meant}?")


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_dtypes_are_floats(dtype: str) -> None:
    spec = accepted(inputs={"x": {"shape": [1], "dtype": dtype}}).inputs["x"]
    assert (spec.dtype, spec.filling) == (dtype, "normal")
    (message,) = of_model(inputs={"x": {"shape": [1], "dtype": dtype, "fill": "lengths"}})
    assert "fill lengths draws whole numbers" in message


@pytest.mark.parametrize("value", [None, 3, True, [1]])
def test_a_model_of_another_kind(value: Any) -> None:
    (message,) = problems({"models": {"m": value}})
    assert message.startswith("models.m: found ")
    assert "; expected a registry name or a mapping of source, kwargs, weights" in message


def test_nodes_of_latencies_need_an_executor_that_has_nodes() -> None:
    benchmark = {"providers": ["cpu"], "nodes": ["gpu01"]}
    assert of_run(benchmark=benchmark) == [
        "benchmark.nodes: executor=process takes latencies on this machine. "
        "Choose an executor of several nodes, or omit it."
    ]
    spec = parse({"models": {"m": BASE}, "benchmark": benchmark, "executor": {"name": "ray"}})
    assert spec.benchmark.nodes == ["gpu01"]


@pytest.mark.parametrize(
    ("executor", "store", "said"),
    [
        (
            "ray",
            {"path": "outputs/.store"},
            [
                "store.path: outputs/.store is a folder, and with executor.shared=false nodes have "
                "none. Write store.path=s3://BUCKET/PREFIX, which this machine and all nodes reach."
            ],
        ),
        (
            "ray",
            {"path": "s3://zoo/store", "use": False},
            [
                "store.use: found false, but with executor.shared=false files go to the nodes by "
                "the store. Leave it out."
            ],
        ),
        (
            "slurm",
            {"path": "s3://zoo/store"},
            [
                "executor.shared: found false; executor=slurm needs a folder that all machines "
                "share. Leave it out, or choose executor=ray."
            ],
        ),
    ],
)
def test_nodes_without_a_shared_folder_need_a_store_that_they_reach(
    executor: str, store: dict[str, object], said: list[str]
) -> None:
    assert of_run(executor={"name": executor, "shared": False}, store=store) == said


def test_nodes_without_a_shared_folder_have_a_place_of_an_object_store() -> None:
    store, executor = {"path": "s3://zoo/store"}, {"name": "ray", "shared": False}
    assert parse({"models": {"m": BASE}, "store": store, "executor": executor}).store.use
