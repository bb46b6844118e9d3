"""Rows 13, 17-20 and 23 of the fault list: what the rules say of a typed configuration."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import registry
from converter.config.validation import parse
from converter.model.errors import ConfigError
from converter.model.inputs import CaseInput, InputSpec
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


# Dynamic axes (row 18)


def test_a_dynamic_axis_on_an_unknown_input_names_the_known() -> None:
    assert of_model(dynamic_axes={"inpt": {0: "b"}}) == [
        "models.m.dynamic_axes.inpt: no such input or output (inputs: input; outputs: output)."
    ]


def test_a_dynamic_axis_beyond_the_rank_names_it() -> None:
    (message,) = of_model(dynamic_axes={"input": {4: "b"}})
    assert message.endswith("axis 4 is beyond the input's rank, 4 (axes 0 to 3).")
    (message,) = of_model(dynamic_axes={"input": [-1]})
    assert message.endswith("axis -1 is negative; count from 0.")
    (message,) = of_model(dynamic_axes={"input": [2, 2]})
    assert message.endswith("axis 2 is listed more than once.")


def test_one_axis_as_number_and_as_text_is_stated_twice() -> None:
    (message,) = of_model(dynamic_axes={"input": {0: "b", "0": "batch"}})
    assert message == (
        "models.m.dynamic_axes.input.0: the key 0 is stated twice, as a number and as text. "
        "State it once."
    )


def test_stated_inputs_replace_the_registrys_for_the_axes() -> None:
    found = of_model(inputs={"x": {"shape": [1, 3, 9, 9]}}, dynamic_axes={"input": [0]})
    assert "no such input or output (inputs: x; outputs: output)" in found[0]
    assert accepted(inputs={"x": {"shape": [1, 3, 9, 9]}}, dynamic_axes={"x": [0]})


def test_axes_of_outputs_need_names() -> None:
    model = {"source": "torchvision/fasterrcnn_resnet50_fpn", "outputs": []}
    (message,) = problems({"models": {"m": model | {"dynamic_axes": {"boxes": [0]}}}})
    assert message.endswith("outputs: not named). To name them: outputs: [NAME, …].")


# Choices (row 19)


@pytest.mark.parametrize(
    ("simplifier", "problem"),
    [
        ({"name": "onnxsim", "skipped_optimizers": ["fuse_bn_into_conv"]}, None),
        ({"name": "onnxslim", "skip_fusion_patterns": []}, None),
        (
            {"name": "onnxslim", "skipped_optimizers": []},
            "simplifier.skipped_optimizers: unknown key. Known: skip_fusion_patterns.",
        ),
        (
            {"skipped_optimizers": [1]},
            "simplifier.skipped_optimizers.0: found 1; expected text.",
        ),
    ],
)
def test_options_are_those_of_the_plugin(simplifier: dict[str, Any], problem: str | None) -> None:
    config = {"simplifier": simplifier, "models": {"m": {"source": "srcnn"}}}
    if problem is None:
        assert parse(config).simplifier.name == simplifier["name"]
        return
    with pytest.raises(ConfigError) as caught:
        parse(config)
    assert [str(one) for one in caught.value.problems] == [problem]


def test_unknown_choices_are_answered_with_the_known() -> None:
    found = of_run(
        exporter={"name": "dynmo"},
        simplifier={"name": "onnxslm"},
        executor={"name": "proces"},
    )
    assert found == [
        "exporter.name: found 'dynmo'; expected auto or dynamo or torchscript. "
        "Did you mean dynamo?",
        "simplifier.name: found 'onnxslm'; expected onnxsim or onnxslim. Did you mean onnxslim?",
        "executor.name: found 'proces'; expected inline or process or ray or slurm. "
        "Did you mean process?",
    ]
    assert of_model(exporter="torchscrip")[0].endswith("Did you mean torchscript?")


def test_an_unknown_dtype_is_answered_with_the_known() -> None:
    (message,) = of_model(inputs={"x": {"shape": [1], "dtype": "float23"}})
    assert message.startswith("models.m.inputs.x.dtype: found 'float23'; expected float16 or ")
    assert message.endswith("Did you mean float32?")


def test_an_unknown_error_code_is_answered_with_the_nearest() -> None:
    (message,) = of_model(expect={"status": "failed", "code": "VERIFY_VALU", "reason": "r"})
    assert "found 'VERIFY_VALU'; expected an error code. Did you mean VERIFY_VALUE" in message
    (message,) = of_model(expect={"status": "failed", "code": "EXPORT"})
    assert message.startswith("models.m.expect.reason: is missing; expected text")


# Tensors and cases (row 20)


def test_names_stand_for_one_tensor() -> None:
    outputs = accepted(outputs={"y": {"constant": True}, "z": {}}).outputs
    assert (outputs["y"].constant, list(outputs)) == (True, ["y", "z"])
    assert of_model(outputs=["y", "y"]) == ["models.m.outputs: 'y' is listed more than once."]
    (message,) = of_model(outputs=["input"])
    assert message == "models.m.outputs: 'input' is the name of an input as well."
    (message,) = of_model(export={"parameter_names": ["w", "w"]})
    assert message == "models.m.export.parameter_names: 'w' is listed more than once."


def test_cases_and_shapes_name_inputs_in_their_rank() -> None:
    case = {"label": "big", "inputs": {"inpt": {"shape": [1]}, "input": {"shape": [1, 2]}}}
    assert of_model(verify={"cases": [case], "shapes": [{"input": [1]}]}) == [
        "models.m.verify.shapes.0.input: the shape [1] has 1 dimensions; the input has 4.",
        "models.m.verify.cases.0.inputs.inpt: the model has no such input. Did you mean input?",
        "models.m.verify.cases.0.inputs.input: the shape [1, 2] has 2 dimensions; the input has 4.",
    ]
    constant = {"label": "one", "inputs": {"input": {"fill": "constant"}}}
    (message,) = of_model(verify={"cases": [constant]})
    assert message.endswith("fill constant needs 'value'.")
    assert of_run(verify={"shapes": [{"input": [1]}]}) == [
        "verify.shapes: can only be set per model. Write it as models.NAME.verify.shapes."
    ]


def test_a_source_without_default_inputs_needs_them() -> None:
    for source in ({"_target_": "a.b"}, {"file": "a.py", "name": "A"}, {"torchscript": "a.pt"}):
        (message,) = problems({"models": {"m": {"source": source}}})
        assert message.startswith("models.m.inputs: this source has no default inputs. State")
    assert parse({"models": {"m": {"source": {"onnx": "a.onnx"}}}})


def test_an_onnx_source_has_no_exporter() -> None:
    (message,) = problems({"models": {"m": {"source": {"onnx": "a"}, "exporter": "dynamo"}}})
    assert message.endswith("the source is ONNX already: nothing exports it. Remove the key.")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights", {"checkpoint": "a.pth"}),
        ("weights", "random"),
        ("constants", {"scale": 2}),
        ("kwargs", {"width": 2}),
        ("training", "train"),
        ("export", {"export_params": False}),
        ("export", {"keep_initializers_as_inputs": True}),
        ("export", {"parameter_names": ["w"]}),
        ("opset", {"min": 13, "max": 17}),
    ],
)
def test_an_onnx_source_refuses_what_only_an_export_follows(key: str, value: object) -> None:
    (message,) = problems({"models": {"m": {"source": {"onnx": "a"}, key: value}}})
    assert message.startswith(f"models.m.{key}")
    assert "emove the key." in message


def test_an_onnx_source_keeps_the_keys_that_mean_something() -> None:
    keys = {"opset": 17, "training": "eval", "export": {"external_data": "always"}}
    assert parse({"models": {"m": {"source": {"onnx": "a"}, **keys}}})


def test_an_exported_program_has_a_mode_already() -> None:
    model = {"source": {"exported_program": "a.pt2"}, "inputs": {"x": {"shape": [2]}}}
    (message,) = problems({"models": {"m": {**model, "training": "train"}}})
    assert message == (
        "models.m.training: the mode of an exported program was fixed when it was exported. "
        "Remove the key."
    )
    assert parse({"models": {"m": {**model, "training": "eval"}}})


# Fillings: no key is ignored in silence


@pytest.mark.parametrize(
    ("keys", "filling"),
    [
        ({}, "normal"),
        ({"dtype": "int64"}, "integers"),
        ({"value": 3}, "constant"),
        ({"path": "x.npy"}, "file"),
        ({"low": 0.0}, "uniform"),
        ({"high": 2.0}, "uniform"),
        ({"dtype": "int64", "low": 3.0}, "integers"),
        ({"dtype": "bool", "value": True}, "constant"),
    ],
)
def test_the_fill_follows_from_what_is_stated(keys: dict[str, Any], filling: str) -> None:
    model = accepted(inputs={"x": {"shape": [2], **keys}})
    assert model.inputs["x"].filling == filling


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fill": "normal", "low": 0}, "fill normal of float32 has no use for 'low'."),
        ({"fill": "uniform", "value": 1}, "fill uniform of float32 has no use for 'value'."),
        ({"value": 1, "path": "x.npy"}, "fill constant of float32 has no use for 'path'."),
        ({"dtype": "bool", "high": 2}, "fill integers of bool has no use for 'high'."),
    ],
)
def test_a_key_that_the_fill_has_no_use_for_is_refused(keys: dict[str, Any], message: str) -> None:
    assert of_model(inputs={"x": {"shape": [2], **keys}}) == [f"models.m.inputs.x: {message}"]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("fill", ["normal", "uniform"])
def test_fractions_do_not_fill_integers(dtype: str, fill: str) -> None:
    told = f"fill {fill} draws fractions, which {dtype} cannot hold; use fill: integers"
    tensor = {"shape": [2], "dtype": dtype}
    (message,) = of_model(inputs={"x": {**tensor, "fill": fill}})
    assert message == f"models.m.inputs.x: {told}, or a float dtype."
    case = {"label": "a", "inputs": {"x": {"fill": fill}}}
    (message,) = of_model(inputs={"x": tensor}, verify={"cases": [case]})
    assert message.startswith(f"models.m.verify.cases.0.inputs.x: {told}")


@pytest.mark.parametrize(
    ("declared", "change", "found"),
    [
        ({"fill": "uniform", "low": 0.0, "high": 1.0}, {"value": 3}, {"constant", 3}),
        ({"fill": "constant", "value": 3}, {"low": 0.5}, {"uniform", 0.5}),
        ({"low": 0.0, "high": 1.0}, {"high": 2.0}, {"uniform", 0.0, 2.0}),
        ({"value": 3}, {"fill": "normal"}, {"normal"}),
        ({"value": 3}, {"shape": [9]}, {"constant", 3}),
        ({"value": 3}, {"path": "x.npy"}, {"file", "x.npy"}),
    ],
)
def test_a_case_takes_over_only_what_its_fill_uses(
    declared: dict[str, Any], change: dict[str, Any], found: set[Any]
) -> None:
    merged = CaseInput(**change).on(InputSpec(shape=[2], **declared))
    assert merged.shape == change.get("shape", [2])
    assert set(merged.model_dump(exclude={"shape", "dtype"}, exclude_none=True).values()) == found


# Verification cases can be told apart, and can be taken by the file


@pytest.mark.parametrize("label", ["traced", "second", "input=3x3x255x255"])
def test_a_label_is_not_that_of_another_case(label: str) -> None:
    (message,) = of_model(
        dynamic_axes={"input": [0]},
        verify={"shapes": [{"input": [3, 3, 255, 255]}], "cases": [{"label": label}]},
    )
    assert message == (
        f"models.m.verify.cases: the label '{label}' is the name of another case. Choose another."
    )


def test_labels_and_shapes_are_listed_once() -> None:
    shape = {"input": [3, 3, 255, 255]}
    assert of_model(
        dynamic_axes={"input": {0: "batch"}},
        verify={"shapes": [shape, shape], "cases": [{"label": "a"}, {"label": "a"}]},
    ) == [
        "models.m.verify.cases: two cases have the label 'a'.",
        "models.m.verify.shapes: 'input=3x3x255x255' is listed more than once.",
    ]


def test_another_size_needs_a_dynamic_axis() -> None:
    shape = [3, 3, 224, 255]
    case = {"label": "a", "inputs": {"input": {"shape": shape}}}
    verify = {"shapes": [{"input": shape}], "cases": [case]}
    told = (
        "axis 2 is 224; the input has 255 there and the axis is not dynamic. "
        "Add 2 to the model's dynamic_axes.input, or keep 255."
    )
    assert of_model(dynamic_axes={"input": [0]}, verify=verify) == [
        f"models.m.verify.shapes.0.input: {told}",
        f"models.m.verify.cases.0.inputs.input: {told}",
    ]
    assert accepted(dynamic_axes={"input": {0: "n", 2: "h"}}, verify=verify)
    inputs = {"input": {"shape": [1, 3, 8, 8]}}
    assert parse({"models": {"m": {"source": {"onnx": "a"}, "inputs": inputs, "verify": verify}}})


# Registry, include, select (rows 13, 23)


def test_an_unknown_registry_name_is_answered_with_the_nearest() -> None:
    (message,) = problems({"models": {"m": {"source": "conv_bn_rel"}}})
    assert message == (
        "models.m.source: the registry has no 'conv_bn_rel'. Did you mean conv_bn_relu?"
    )


def test_a_builder_that_the_installed_library_lacks_ends_the_command() -> None:
    (message,) = problems({"models": {"m": {"source": "torchvision/resnet19"}}})
    assert message.startswith(
        "models.m.source: the installed torchvision has no 'resnet19'. "
        "Did you mean torchvision/resnet18 or torchvision/"
    )


def test_a_builder_whose_absence_is_expected_is_for_the_worker() -> None:
    expect = {"status": "failed", "code": "LOAD", "reason": "torchvision 0.99 has it"}
    assert parse({"models": {"m": {"source": "torchvision/resnet1800", "expect": expect}}})


def test_a_library_that_is_not_installed_is_for_the_worker(monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "names", lambda pattern="*": [])
    assert parse({"models": {"m": {"source": "torchvision/resnet1800"}}})


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("net.py", "Write source: {file: net.py, name: CLASS}."),
        ("a/net.onnx", "Write source: {onnx: a/net.onnx}."),
        ("net.pt2", "Write source: {exported_program: net.pt2}."),
        ("net.pt", "of a file of weights: weights: {checkpoint: net.pt} beside the source."),
    ],
)
def test_a_path_is_no_registry_name(source: str, hint: str) -> None:
    (message,) = problems({"models": {"m": {"source": source}}})
    assert message.startswith(f"models.m.source: '{source}' is a file, not a name of the registry.")
    assert message.endswith(hint)


@pytest.mark.parametrize("path", ["my.pth", "runs/last.ckpt", "model.safetensors"])
def test_weights_that_are_a_path_are_a_checkpoint(path: str) -> None:
    (message,) = of_model(weights=path)
    assert message == (
        f"models.m.weights: '{path}' is a file; expected random, conditioned, a name of pretrained "
        f"weights, or a mapping. Write weights: {{checkpoint: {path}}}"
    )


@pytest.mark.parametrize("kind", ["torchscript", "exported_program", "onnx"])
def test_weights_that_a_source_carries_are_not_conditioned(kind: str) -> None:
    inputs = {"x": {"shape": [1]}}
    (message,) = of_model(source={kind: "a.pt"}, weights="conditioned", inputs=inputs)
    if kind == "onnx":
        assert message.startswith("models.m.weights: the source is ONNX already")
    else:
        assert message == (
            "models.m.weights: conditioned redraws random weights, and a source "
            f"{kind} carries its own. Remove the key, or name what builds the module."
        )


@pytest.mark.parametrize("source", ["srcnn", {"_target_": "mine.build"}])
def test_weights_of_a_builder_are_conditioned(source: Any) -> None:
    model = accepted(source=source, weights="conditioned", inputs={"input": {"shape": [1]}})
    assert model.weights == "conditioned"


@pytest.mark.parametrize("rename", [{"a.": "b"}, {"a": "b."}, {"": "b"}, {"a": ""}])
def test_a_module_is_renamed_to_a_module(rename: dict[str, str]) -> None:
    (message,) = of_model(weights={"checkpoint": "a.pth", "rename": rename})
    assert message.startswith("models.m.weights.rename: ")
    assert "both end at a dot (all names that begin so), or neither does (one name)" in message
    assert accepted(weights={"checkpoint": "a", "rename": {"a.": "", "": "b.", "c": "d"}})


@pytest.mark.parametrize(
    ("source", "kwargs", "refused"),
    [
        ("torchvision/resnet18", {"pretrained": True}, ["pretrained"]),
        ("torchvision/fcn_resnet50", {"weights_backbone": "DEFAULT"}, ["weights_backbone"]),
        ({"_target_": "torchvision.models.resnet18"}, {"weights": "DEFAULT"}, ["weights"]),
        ("torchvision/resnet18", {"pretrained": False, "weights": None, "num_classes": 3}, []),
        ({"_target_": "mine.build"}, {"pretrained": True}, []),
        ({"file": "mine.py", "name": "timm"}, {"pretrained": True}, []),
    ],
)
def test_row_60_weights_are_loaded_by_the_key_that_checks_them(
    source: Any, kwargs: dict[str, Any], refused: list[str]
) -> None:
    keys = {"source": source, "kwargs": kwargs, "inputs": {"x": {"shape": [1, 3, 64, 64]}}}
    if not refused:
        assert accepted(**keys).kwargs == kwargs
    for key in refused:
        assert of_model(**keys) == [
            f"models.m.kwargs.{key}: makes torchvision load weights by itself, unchecked. State "
            "them as models.m.weights: NAME or {checkpoint: PATH}, and remove the key."
        ]


def test_row_60_timm() -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    found = of_model(source="timm/resnet18", kwargs={"pretrained": True, "pretrained_cfg": "a1"})
    assert [message.partition(":")[0] for message in found] == [
        "models.m.kwargs.pretrained", "models.m.kwargs.pretrained_cfg",
    ]  # fmt: skip


def test_a_missing_source_suggests_one() -> None:
    (message,) = problems({"models": {"resnet18": {"opset": 17}}})
    assert message.startswith("models.resnet18.source: is missing. Perhaps source: ")


def test_a_select_that_matches_nothing_names_pattern_and_near_names() -> None:
    assert of_run(select=["m", "n*"]) == ["select: 'n*' matches no model of this run. Known: m."]
    config = {"models": {"resnet_a": BASE}, "select": ["resnt_a"]}
    assert problems(config)[0].endswith("Did you mean resnet_a?")


def test_an_include_that_matches_nothing_is_told() -> None:
    (message,) = of_run(include=["torchvison/*"])
    assert message.startswith("include: 'torchvison/*' matches nothing in the registry.")


def test_nothing_to_convert_is_a_problem() -> None:
    (message,) = problems({})
    assert message.endswith("Name an experiment (+experiment=smoke), `include` or `models`.")


# Opset and exporter (row 17)


def test_an_opset_beyond_the_exporter_names_its_range_and_the_other() -> None:
    message = (
        "models.m: opset 13 was requested, but dynamo supports opsets 16 to 25 "
        "(torchscript supports 7 to 23). Change its opset or its exporter."
    )
    assert of_model(opset=13, exporter="dynamo") == [message]
    assert of_run(opset=13, exporter={"name": "dynamo"}) == [message]
    config = {"opset": 13, "exporter": {"name": "dynamo"}, "models": {"m": BASE, "n": BASE}}
    assert parse(config, sweep=True)
    assert len(problems(config)) == 2
    assert len(problems(config | {"select": ["n"]})) == 1


# Latency


def test_a_provider_is_one_that_there_is() -> None:
    known = ["cpu", "cuda", "tensorrt_ep", "openvino_ep"]
    spec = parse({"models": {"m": BASE}, "benchmark": {"providers": known}})
    assert spec.benchmark.providers == known
    assert of_run(benchmark={"providers": ["cdua"]}) == [
        f"benchmark.providers: found 'cdua'; expected {' or '.join(loader.names('providers'))}. "
        "Did you mean cuda?"
    ]


def test_providers_and_batch_sizes_are_listed_once() -> None:
    assert of_run(benchmark={"providers": ["cpu", "cpu"], "batch_sizes": [4, 4, 8]}) == [
        "benchmark.providers: cpu is listed more than once.",
        "benchmark.batch_sizes: 4 is listed more than once.",
    ]


def test_an_unquoted_off_is_no_benchmark() -> None:
    assert parse({"models": {"m": BASE}, "benchmark": False}).benchmark.providers == []


# The run as a whole


def test_a_baseline_that_is_not_there() -> None:
    (message,) = of_run(baseline="outputs/nope")
    assert message.startswith("baseline: there is no /")
    assert message.endswith("Name a run directory or a manifest, or write baseline=latest.")
    assert parse({"models": {"m": BASE}, "baseline": "latest"}).baseline == "latest"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("no-such-program x", "on_failure: there is no program 'no-such-program'. Give its path."),
        ([], "on_failure: names no program."),
        ("mail 'x", "on_failure: No closing quotation in 'mail 'x'. Write it as a list: "),
    ],
)
def test_a_command_that_cannot_be_called(command: object, sentence: str) -> None:
    (message,) = of_run(on_failure=command)
    assert message.startswith(sentence)


def test_a_configuration_calls_only_what_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    program = sys.executable
    (message,) = of_run(on_regression=[program, "-V"])
    line = f"export CONVERTER_TRUST={program}"
    assert message == (f"on_regression: {program} is not trusted to run. If you trust it: {line}")
    monkeypatch.setenv("CONVERTER_TRUST", program)
    assert parse({"models": {"m": BASE}, "on_regression": [program, "-V"]})


# Operators of one's own


TABLE = {"translations": "my_package.operators:TABLE"}


def test_torchscript_alone_has_no_use_for_translations() -> None:
    (message,) = of_model(exporter="torchscript", export=TABLE)
    assert message.startswith(
        "models.m.export.translations: the torchscript exporter has no use for it. "
        "Choose exporter: dynamo or auto"
    )


@pytest.mark.parametrize("exporter", ["dynamo", "auto"])
def test_others_may_use_them(exporter: str) -> None:
    parse({"models": {"m": BASE | {"exporter": exporter, "export": TABLE}}})


@pytest.mark.parametrize("name", ["my_package.operators", "my-package:TABLE", "a:b:c", ":TABLE"])
def test_a_table_is_named_with_a_colon(name: str) -> None:
    (message,) = of_model(exporter="dynamo", export={"translations": [name]})
    assert message.startswith("models.m.export.translations")


def test_a_file_that_is_onnx_has_no_use_for_translations_and_may_have_operators() -> None:
    source = {"onnx": "m.onnx"}
    (message,) = problems({"models": {"m": {"source": source, "export": TABLE}}})
    assert message.endswith("the source is ONNX already: nothing exports it. Remove the key.")
    parse({"models": {"m": {"source": source, "export": {"custom_ops": "lib.so"}}}})


# Where files are published


def test_a_folder_is_published_to_by_its_path_or_with_more() -> None:
    def found(stated: Any) -> list[tuple[str, str | None, int]]:
        spec = parse({"models": {"m": BASE}, "publish_to": stated})
        return [(each.path, each.layout, each.keep_versions) for each in spec.publish_to]

    assert found(None) == []
    assert found("zoo") == [("zoo", None, 1)]
    assert found({"path": "a", "layout": "triton"}) == [("a", "triton", 1)]
    assert found(["zoo", {"path": "a", "keep_versions": 3}]) == [("zoo", None, 1), ("a", None, 3)]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (3, "publish_to: expected a folder, a mapping with its path, or a list of such."),
        ({"layout": "zoo"}, "publish_to.path: is missing; expected text that is not empty."),
        (
            {"path": "a", "layout": "tritn"},
            "publish_to.layout: found 'tritn'; expected huggingface or triton or zoo. "
            "Did you mean triton?",
        ),
        (
            {"path": "a", "layout": "triton", "instances": "tpu"},
            "publish_to.instances: found 'tpu'; expected auto or cpu or gpu. Did you mean gpu?",
        ),
        (
            {"path": "a", "layout": "triton", "keep_version": 2},
            "publish_to.keep_version: unknown key. Did you mean keep_versions?",
        ),
        (
            ["a", {"path": "a", "layout": "triton"}],
            "publish_to.1.path: is that of publish_to.0 too. Give each a folder of its own.",
        ),
        (
            ["a", "b/../a/c"],
            "publish_to.1.path: is inside of the folder of publish_to.0. Give each a folder of its "
            "own, beside the other.",
        ),
        (
            ["a/c", "a"],
            "publish_to.1.path: is around the folder of publish_to.0. Give each a folder of its "
            "own, beside the other.",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(stated: Any, said: str) -> None:
    assert of_run(publish_to=stated) == [said]


def named(*names: str, layout: str = "zoo", **keys: Any) -> dict[str, Any]:
    models = dict.fromkeys(names, BASE)
    return {"models": models, "publish_to": {"path": "zoo", "layout": layout}, **keys}


@pytest.mark.parametrize("name", ["index.html", "index.json", "Index.HTML"])
def test_a_model_that_is_called_as_the_index_cannot_be_published(name: str) -> None:
    file = name.lower()
    what = f"publish_to has a file {file} where the folder of the model would be. Rename the model."
    assert problems(named("a", name)) == [f"models.{name}: {what}"]
    parse({"models": {name: BASE}})


def test_two_models_cannot_have_one_folder() -> None:
    config = named("x", "x.fp16", layout="triton", variant=["fp16"])
    what = "publish_to would have it in the folder of fp16 of the model x. Rename one of the two."
    assert problems(config) == [f"models.x.fp16: {what}"]
    assert problems(named("index", layout="triton", variant={"html": {"plugin": "fp16"}})) == [
        "models.index: publish_to has a file index.html where the folder of html would be. "
        "Rename the model or the variant."
    ]
    # All of a model lies in one folder there, or no such variant is made.
    parse(named("x", "x.fp16", variant=["fp16"]))
    parse(named("x", "x.fp16", layout="triton"))


@pytest.mark.parametrize(
    ("store", "published", "words"),
    [
        ("a", "b/../a", "is that of store.path too"),
        ("a", "a/zoo", "is inside of the folder of store.path"),
        ("a/store", "a", "is around the folder of store.path"),
        ("s3://zoo/a", "s3://zoo/a/", "is that of store.path too"),
        ("s3://zoo/a", "s3a://zoo/a/b", "is inside of the folder of store.path"),
    ],
)
def test_the_store_and_what_is_published_have_places_of_their_own(
    store: str, published: str, words: str
) -> None:
    (text,) = of_run(store={"path": store}, publish_to=published)
    assert text.startswith(f"publish_to.path: {words}")
    unused = {"path": store, "use": False}
    parse({"models": {"m": BASE}, "store": unused, "publish_to": published})


@pytest.mark.parametrize("below", ["", "/zoo"])
def test_a_file_in_the_place_of_a_folder_is_told_with_the_configuration(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("")
    (text,) = of_run(publish_to=f"{tmp_path}/file{below}")
    what = f"publish_to.path: {tmp_path}/file is there, and is no folder."
    assert text == f"{what} Name a folder, or move the file away."
