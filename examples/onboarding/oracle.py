"""Compares the files of a run with PyTorch, without the converter.

    python oracle.py RUN [NAME …]

For each model: build it again as its YAML says, from the same seed; draw inputs with NumPy, where
sizes are dynamic at others than the example's; run PyTorch, run the file with onnxruntime, compare.
Weights that the converter redrew (`weights: conditioned`) are read from the file, see `weights.py`.
Ends with 1 if any output of any model differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
import nets
import numpy as np
import onnxruntime
import torch
import yaml
from torch import Tensor, nn
from transformers import DynamicCache
from weights import from_file, from_folder

HERE = Path(__file__).parent
RTOL = 1e-3  # of the largest value of an output


class Draw:
    """Inputs of one call."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(self._generator.standard_normal(shape, np.float32))

    def unit(self, *shape: int) -> Tensor:
        return torch.from_numpy(self._generator.random(shape, np.float32))

    def ids(self, *shape: int, below: int, least: int = 0) -> Tensor:
        return torch.from_numpy(self._generator.integers(least, below, shape))

    def mask(self, rows: int, length: int, left: bool = False) -> Tensor:
        kept = self.ids(rows, 1, below=length + 1, least=1)
        row = torch.arange(length)[None] < kept
        return (row.flip(1) if left else row).to(torch.int64)


class Call:
    """The arguments of a call, by position and by keyword."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args, self.kwargs = args, kwargs


Case = Callable[..., Call]
CASES: dict[str, tuple[Case, list[tuple[int, ...]]]] = {}


def of(*names: str, sizes: list[tuple[int, ...]]) -> Callable[[Case], Case]:
    """The decorated function draws a call of these models, at each of the sizes."""

    def keep(case: Case) -> Case:
        CASES.update(dict.fromkeys(names, (case, sizes)))
        return case

    return keep


@of("bert", "t5_encoder", "bart_encoder", "sentence_folder", sizes=[(2, 8), (3, 13), (1, 2)])
def text(draw: Draw, batch: int, length: int) -> Call:
    ids = draw.ids(batch, length, below=100, least=3)
    return Call(input_ids=ids, attention_mask=draw.mask(batch, length))


@of("trocr_decoder", sizes=[(6, 10), (9, 3), (2, 17)])
def decoder_of_pictures(draw: Draw, length: int, patches: int) -> Call:
    ids = draw.ids(1, length, below=100, least=3)
    return Call(input_ids=ids, encoder_hidden_states=draw.normal(1, patches, 24))


@of("llama_step", sizes=[(1, 5), (1, 1), (1, 30)])
@of("qwen2_step", sizes=[(2, 5), (2, 1), (2, 64)])
def step(draw: Draw, batch: int, past: int) -> Call:
    layers = [tuple(draw.normal(batch, 2, past, 8) for _ in range(2)) for _ in range(2)]
    return Call(
        input_ids=draw.ids(batch, 1, below=100),
        attention_mask=draw.mask(batch, past + 1, left=True),
        past_key_values=DynamicCache(layers),
    )


@of("decoder_step", sizes=[(5,), (1,), (33,)])
def own_step(draw: Draw, past: int) -> Call:
    layers = [tuple(draw.normal(2, 2, past, 8) for _ in range(2)) for _ in range(2)]
    return Call(draw.ids(2, 1, below=60), draw.mask(2, past + 1, left=True), layers)


@of("mamba", sizes=[(1, 8), (3, 8)])
def tokens(draw: Draw, batch: int, length: int) -> Call:
    return Call(draw.ids(batch, length, below=100))


@of("whisper_encoder", sizes=[(1, 16, 100), (3, 16, 100)])
@of("wav2vec2", sizes=[(1, 1600), (1, 403), (1, 5001)])
@of("vit", sizes=[(1, 3, 32, 32), (4, 3, 32, 32)])
@of("dpt", sizes=[(1, 3, 32, 32), (2, 3, 32, 32)])
@of("swin", "mobilevit", sizes=[(1, 3, 64, 64), (3, 3, 64, 64)])
@of("segformer", sizes=[(1, 3, 64, 64), (2, 3, 96, 160), (1, 3, 256, 64)])
@of("patchtst", sizes=[(2, 32, 3), (5, 32, 3)])
@of("vae_decoder", sizes=[(1, 4, 8, 8), (1, 4, 5, 13), (1, 4, 32, 4)])
@of("video", sizes=[(1, 3, 4, 32, 32), (2, 3, 9, 32, 32)])
@of("pyramid", sizes=[(1, 3, 64, 64), (2, 3, 96, 33)])
@of("ocr", sizes=[(1, 1, 32, 64), (3, 1, 32, 101)])
@of("pointnet", sizes=[(2, 3, 50), (1, 3, 7), (3, 3, 211)])
@of("unet", sizes=[(1, 3, 64, 64), (1, 3, 8, 40)])
@of("super_resolution", sizes=[(1, 1, 32, 48), (1, 1, 7, 19)])
@of("yolo", sizes=[(1, 3, 64, 64), (2, 3, 97, 128)])
def one_tensor(draw: Draw, *shape: int) -> Call:
    return Call(draw.normal(*shape))


@of("clip", sizes=[(7,), (3,), (20,)])
def picture_and_text(draw: Draw, length: int) -> Call:
    return Call(
        pixel_values=draw.normal(2, 3, 32, 32),
        input_ids=draw.ids(2, length, below=100),
        attention_mask=draw.mask(2, length),
    )


@of("detr", sizes=[()])
def padded_picture(draw: Draw) -> Call:
    mask = torch.ones(1, 64, 64, dtype=torch.int64)
    return Call(pixel_values=draw.normal(1, 3, 64, 64), pixel_mask=mask)


@of("sam", sizes=[(2,), (1,), (5,)])
def picture_and_points(draw: Draw, points: int) -> Call:
    return Call(
        pixel_values=draw.normal(1, 3, 64, 64),
        input_points=64 * draw.unit(1, 1, points, 2),
        input_labels=draw.ids(1, 1, points, below=2),
    )


@of("unet2d", sizes=[()])
def diffusion(draw: Draw) -> Call:
    return Call(draw.normal(1, 3, 16, 16), draw.ids(1, below=1000))


@of("unet2d_condition", sizes=[(5,), (2,), (77,)])
def diffusion_xl(draw: Draw, tokens: int) -> Call:
    more = {"text_embeds": draw.normal(1, 16), "time_ids": draw.normal(1, 6)}
    latents, states = draw.normal(1, 4, 8, 8), draw.normal(1, tokens, 16)
    return Call(latents, draw.ids(1, below=1000), states, added_cond_kwargs=more)


@of("controlnet", sizes=[(5,), (2,), (77,)])
def control(draw: Draw, tokens: int) -> Call:
    latents, states = draw.normal(1, 4, 8, 8), draw.normal(1, tokens, 16)
    return Call(latents, draw.ids(1, below=1000), states, draw.unit(1, 3, 16, 16))


@of("unet_controlled", sizes=[(5,), (2,), (77,)])
def diffusion_with_residuals(draw: Draw, tokens: int) -> Call:
    return Call(
        draw.normal(1, 4, 8, 8),
        draw.ids(1, below=1000),
        draw.normal(1, tokens, 16),
        down_block_additional_residuals=tuple(draw.normal(1, 32, n, n) for n in (8, 8, 4, 4)),
        mid_block_additional_residual=draw.normal(1, 32, 4, 4),
    )


@of("dit", sizes=[(1,), (3,)])
def diffusion_of_classes(draw: Draw, batch: int) -> Call:
    return Call(
        hidden_states=draw.normal(batch, 4, 8, 8),
        timestep=draw.ids(batch, below=1000),
        class_labels=draw.ids(batch, below=10),
    )


@of("faster_rcnn", sizes=[(320, 320)])
@of("retinanet", sizes=[(64, 96)])
def list_of_pictures(draw: Draw, height: int, width: int) -> Call:
    return Call([draw.unit(3, height, width)])


@of("raft", sizes=[()])
def two_frames(draw: Draw) -> Call:
    first = draw.unit(1, 3, 128, 128) * 2 - 1
    return Call(first, draw.unit(1, 3, 128, 128) * 2 - 1, num_flow_updates=3)


@of("streaming_asr", sizes=[(6,), (1,), (40,)])
def chunk_and_state(draw: Draw, frames: int) -> Call:
    return Call(draw.normal(1, frames, 20), (draw.normal(2, 1, 16), draw.normal(2, 1, 16)))


@of("matting", sizes=[()])
def frame_and_states(draw: Draw) -> Call:
    states = [draw.normal(1, 8, h, w) for h, w in ((16, 24), (8, 12), (4, 6))]
    return Call(draw.unit(1, 3, 32, 48), states)


@of("dlrm", sizes=[(4,), (1,), (100,)])
def dictionary_of_features(draw: Draw, batch: int) -> Call:
    sparse = {"city": draw.ids(batch, below=50), "device": draw.ids(batch, below=7)}
    return Call({"dense": draw.normal(batch, 4), "sparse": sparse})


@of("two_tower", sizes=[(3, 5), (1, 1), (20, 6)])
def topics_and_categories(draw: Draw, users: int, items: int) -> Call:
    topics = draw.unit(users, 12) + 0.01
    one_hot = torch.eye(6)[draw.ids(items, below=6)]
    return Call(topics / topics.sum(1, keepdim=True), one_hot)


@of("policy", sizes=[(1,), (4,)])
def observation(draw: Draw, batch: int) -> Call:
    seen = nets.Observation(joints=draw.normal(batch, 7), image=draw.normal(batch, 3, 32, 32))
    return Call(seen, deterministic=True)


@of("gcn", sizes=[(6, 10), (9, 1), (200, 1500)])
def graph(draw: Draw, nodes: int, edges: int) -> Call:
    ends = draw.ids(2, edges, below=nodes)
    return Call(draw.normal(nodes, 5), ends, edge_weight=draw.normal(edges))


@of("speech", sizes=[(3, 9), (1, 4), (5, 30)])
def sentences_and_lengths(draw: Draw, batch: int, length: int) -> Call:
    lengths = draw.ids(batch, below=length + 1, least=1)
    return Call(draw.ids(batch, length, below=40), lengths)


@of("pooled", sizes=[(2, 7), (1, 1), (5, 40)])
def words_and_mask(draw: Draw, batch: int, length: int) -> Call:
    return Call(draw.ids(batch, length, below=50), draw.mask(batch, length))


@of("forecast", sizes=[(2, 9, 4), (1, 30, 1), (3, 2, 12)])
def readings(draw: Draw, batch: int, past: int, horizon: int) -> Call:
    times = (5 * draw.unit(batch, past + 1)).sort(-1).values
    return Call(draw.normal(batch, past, 1), draw.normal(batch, horizon, 3), times)


def build(entry: Mapping[str, Any]) -> nn.Module:
    """The model of a YAML file, from its seed."""
    torch.manual_seed(0)
    source, kwargs = entry["source"], entry.get("kwargs", {})
    target = source.get("_target_") or f"nets.{source['name']}"
    return hydra.utils.instantiate({"_target_": target, **kwargs, "_convert_": "all"}).eval()


def leaves(tree: object, path: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a structure, by their paths."""
    if isinstance(tree, Tensor):
        yield path, tree
    elif isinstance(tree, DynamicCache):
        yield from leaves([(layer.keys, layer.values) for layer in tree.layers], path)
    elif isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from leaves(part, f"{path}.{name}")
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        for name in tree._fields:
            yield from leaves(getattr(tree, name), f"{path}.{name}")
    elif isinstance(tree, (list, tuple)):
        for number, part in enumerate(tree):
            yield from leaves(part, f"{path}.{number}")


def feed_of(call: Call, inputs: Mapping[str, object]) -> dict[str, np.ndarray]:
    """What the file is fed; YAML has the names of what is passed by position."""
    arguments = [*zip(inputs, call.args, strict=False), *call.kwargs.items()]
    found = [leaf for name, tree in arguments for leaf in leaves(tree, name)]
    return {path: tensor.numpy() for path, tensor in found}


def worst(model: nn.Module, path: Path, call: Call, inputs: Mapping[str, object]) -> float:
    """The largest difference, as a share of the largest value of its output."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = feed_of(call, inputs)  # before the call: a cache grows in it
    feed = {one.name: feed[one.name].copy() for one in session.get_inputs()}
    with torch.no_grad():
        wanted = [tensor.numpy() for _, tensor in leaves(model(*call.args, **call.kwargs), "")]
    got = session.run(None, feed)
    assert len(got) == len(wanted), f"{len(got)} outputs, PyTorch has {len(wanted)}"
    found = 0.0
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape, f"shape {one.shape}, PyTorch has {other.shape}"
        assert one.dtype == other.dtype, f"{one.dtype}, PyTorch has {other.dtype}"
        assert other.size, "PyTorch's output is empty: there is nothing to compare"
        difference = np.abs(one.astype(np.float64) - other)
        found = max(found, float(difference.max() / max(np.abs(other).max(), 1e-30)))
    return found


def check(run: Path, name: str) -> list[float]:
    """The worst difference of each size of a model."""
    entry = yaml.safe_load((HERE / "model" / f"{name}.yaml").read_text())
    path = run / "models" / name / f"{name}.onnx"
    case, sizes = CASES[name]
    model = build(entry)
    if entry.get("weights") == "conditioned":
        call = case(Draw(0), *sizes[0])
        from_file(model, path, lambda: model(*call.args, **call.kwargs))
    elif "weights" in entry:
        from_folder(model, **entry["weights"])
    calls = [case(Draw(number), *size) for number, size in enumerate(sizes, 1)]
    return [worst(model, path, call, entry["inputs"]) for call in calls]


def main(run: str, *names: str) -> int:
    """Check the models that are named, or all; gives the exit code."""
    wrong = 0
    for name in names or sorted(path.stem for path in (HERE / "model").glob("*.yaml")):
        try:
            found = check(Path(run), name)
            right = all(one <= RTOL for one in found)
            says = ", ".join(f"{one:.1e}" for one in found)
        except (AssertionError, ValueError, RuntimeError, OSError) as error:
            right, says = False, str(error)
        wrong += not right
        print(f"{'equal' if right else 'WRONG':6}{name:20}{says}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
