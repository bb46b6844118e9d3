"""Models of several graphs: one like GPT-2, one like T5, with caches; and wrong twins of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, WIDTH, HEADS, LAYERS, LONGEST = 29, 16, 2, 2, 64

Cache = list[dict[str, Tensor]]


def _split(x: Tensor) -> Tensor:
    # TorchScript would freeze the length in `unflatten`.
    return x.reshape(x.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.v, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _split(self.k(x)), _split(self.v(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        scores = _split(self.q(x)) @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        if causal:
            ones = torch.ones_like(scores[0, 0], dtype=torch.bool)
            scores = scores.masked_fill(torch.triu(ones, 1), -1e9)
        mixed = scores.softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], -1, WIDTH))


class Layer(nn.Module):
    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        if crossed:
            self.cross, self.cross_norm = Attention(), nn.LayerNorm(WIDTH)


class Decoder(nn.Module):
    """Learned positions; ``first`` takes a prompt, ``then`` one token and what was kept."""

    crossed = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.layers = nn.ModuleList(Layer(self.crossed) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def embedded(self, ids: Tensor, start: int) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device) + start
        return self.tokens(ids) + self.places(places)

    def run(self, x: Tensor, past: Cache | None, memory: Any = None) -> dict[str, Any]:
        present = []
        for number, layer in enumerate(self.layers):
            key, value = layer.attention.states(layer.norm(x))
            if past is not None:
                key = torch.cat([past[number]["key"], key], 2)
                value = torch.cat([past[number]["value"], value], 2)
            x = x + layer.attention(layer.norm(x), key, value, past is None)
            kept = {"key": key, "value": value}
            if self.crossed:
                other = memory[number]
                x = x + layer.cross(layer.cross_norm(x), other["key"], other["value"], False)
            x = x + layer.down(torch.relu(layer.up(x)))
            present.append(kept)
        return {"logits": self.head(self.norm(x)), "present": present}

    def first(self, input_ids: Tensor) -> dict[str, Any]:
        return self.run(self.embedded(input_ids, 0), None)

    def then(self, input_ids: Tensor, past: Cache) -> dict[str, Any]:
        return self.run(self.embedded(input_ids, past[0]["key"].shape[2]), past)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.first(input_ids)["logits"]


class Gpt(Decoder):
    pass


class Merged(Decoder):
    """One graph for both: of the first step the cache is empty."""

    def step(self, input_ids: Tensor, past: Cache) -> dict[str, Any]:
        before, length = past[0]["key"].shape[2], input_ids.shape[1]
        x, present = self.embedded(input_ids, before), []
        later = torch.arange(before + length) > torch.arange(length)[:, None] + before
        for number, layer in enumerate(self.layers):
            key, value = layer.attention.states(layer.norm(x))
            key = torch.cat([past[number]["key"], key], 2)
            value = torch.cat([past[number]["value"], value], 2)
            scores = _split(layer.attention.q(layer.norm(x))) @ key.transpose(-1, -2)
            mixed = scores.masked_fill(later, -1e9).softmax(-1) @ value
            x = x + layer.attention.out(mixed.transpose(1, 2).reshape(x.shape[0], -1, WIDTH))
            present.append({"key": key, "value": value})
        return {"logits": self.head(self.norm(x)), "present": present}


class Tied(Decoder):
    """All tokens have nearly the same logits: only rounding tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            noise = torch.randn_like(self.head.weight) * 1e-7
            self.head.weight.copy_(self.head.weight[:1] + noise)


class Positioned(Decoder):
    """Positions are an input of their own."""

    def prompt(self, input_ids: Tensor, position_ids: Tensor) -> dict[str, Any]:
        return self.run(self.tokens(input_ids) + self.places(position_ids), None)

    def go_on(self, input_ids: Tensor, position_ids: Tensor, past: Cache) -> dict[str, Any]:
        return self.run(self.tokens(input_ids) + self.places(position_ids), past)


def then_of(model: Decoder, input_ids: Tensor, past: Cache) -> dict[str, Any]:
    """A function that calls the model's own method."""
    return model.then(input_ids, past)


class Late(Decoder):
    """The position of a new token is off by one."""

    def then(self, input_ids: Tensor, past: Cache) -> dict[str, Any]:
        return self.run(self.embedded(input_ids, past[0]["key"].shape[2] + 1), past)


class Exchanged(Decoder):
    """The caches of the two layers are given back in another order."""

    def then(self, input_ids: Tensor, past: Cache) -> dict[str, Any]:
        return super().then(input_ids, past[::-1])


class Failing(Decoder):
    """One graph cannot be run."""

    def then(self, input_ids: Tensor, past: Cache) -> dict[str, Any]:
        raise ValueError("no such graph")


class Undecided(Decoder):
    """Other weights each time that it is built."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator()
        generator.seed()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)


class Hooked(Decoder):
    """A hook on a layer, and one on the model that its methods do not run."""

    def __init__(self) -> None:
        super().__init__()
        self.head.register_forward_hook(lambda module, given, result: result * 2)
        self.register_forward_hook(lambda module, given, result: result["nothing"])

    def again(self, input_ids: Tensor) -> Tensor:
        return self.forward(input_ids)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.layer = nn.Embedding(VOCABULARY, WIDTH), Layer(crossed=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids)
        return x + self.layer.attention(x, *self.layer.attention.states(x), False)


class T5(Decoder):
    """An encoder; its states are projected once, by the first graph of the decoder."""

    crossed = True

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        for parameter in self.encoder.parameters():
            nn.init.normal_(parameter, std=0.5)

    def memory(self, states: Tensor) -> list[dict[str, Tensor]]:
        found = [layer.cross.states(states) for layer in self.layers]
        return [{"key": key, "value": value} for key, value in found]

    def decode(self, ids: Tensor, states: Tensor) -> dict[str, Any]:
        memory = self.memory(states)
        done = self.run(self.embedded(ids, 0), None, memory)
        return {**done, "present_cross": memory}

    def decode_next(self, ids: Tensor, past: Cache, past_cross: Cache) -> dict[str, Any]:
        start = past[0]["key"].shape[2]
        return self.run(self.embedded(ids, start), past, past_cross)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)

    def encode(self, image: Tensor) -> Tensor:
        return torch.tanh(self.down(image))

    def decode(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(self.up(latent))

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))
