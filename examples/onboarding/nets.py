"""Models as their authors wrote them: nothing in here knows of ONNX."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CRNN(nn.Module):
    """OCR: columns of a picture of a line become a sequence of characters."""

    def __init__(self, characters: int = 30, width: int = 16) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.rows = nn.LSTM(width * 8, width, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, characters)

    def forward(self, image: Tensor) -> Tensor:
        columns = self.columns(image).flatten(1, 2).transpose(1, 2)
        return self.head(self.rows(columns)[0]).log_softmax(-1)


class StreamingASR(nn.Module):
    """Speech in chunks: the state of the LSTM goes in and comes out."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.cell = nn.LSTM(20, width, 2, batch_first=True)
        self.head = nn.Linear(width, 12)

    def forward(self, chunk: Tensor, state: tuple[Tensor, Tensor]) -> dict[str, object]:
        y, state = self.cell(chunk, state)
        return {"logits": self.head(y), "state": state}


class Matting(nn.Module):
    """Video: a convolutional GRU at each of three scales carries its own state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Conv2d(c, 8, 3, 2, 1) for c in (3, 8, 8))
        self.gates = nn.ModuleList(nn.Conv2d(16, 16, 3, 1, 1) for _ in range(3))
        self.news = nn.ModuleList(nn.Conv2d(16, 8, 3, 1, 1) for _ in range(3))
        self.alpha = nn.Conv2d(8, 1, 1)

    def forward(self, frame: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        x, new = frame, []
        for encode, gate, candidate, h in zip(
            self.encoders, self.gates, self.news, states, strict=True
        ):
            x = encode(x).relu()
            r, z = gate(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
            x = (1 - z) * h + z * candidate(torch.cat([x, r * h], 1)).tanh()
            new.append(x)
        return F.interpolate(self.alpha(x), frame.shape[-2:], mode="bilinear").sigmoid(), new


class DLRM(nn.Module):
    """A recommender: features come as a dictionary of tables and numbers."""

    def __init__(self, tables: dict[str, int], dense: int = 4, width: int = 8) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(n, width) for name, n in tables.items()})
        self.bottom = nn.Linear(dense, width)
        self.top = nn.Linear(width + (len(tables) + 1) ** 2, 1)

    def forward(self, features: dict[str, object]) -> Tensor:
        sparse = features["sparse"]
        rows = [self.bottom(features["dense"])]
        rows += [table(sparse[name]) for name, table in self.tables.items()]
        stacked = torch.stack(rows, 1)
        pairs = (stacked @ stacked.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([rows[0], pairs], 1)).sigmoid()


class TwoTower(nn.Module):
    """Retrieval: one tower sees a distribution over topics, the other one a category."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Linear(12, 8), nn.Linear(6, 8)

    def forward(self, topics: Tensor, category: Tensor) -> Tensor:
        user = F.normalize(self.user(topics.log()), dim=-1)
        return user @ F.normalize(self.item(category), dim=-1).T


class Observation(NamedTuple):
    joints: Tensor
    image: Tensor


class Policy(nn.Module):
    """A robot's policy on a named tuple; its last layer starts at zero, as such layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.joints, self.image = nn.Linear(7, 16), nn.Conv2d(3, 16, 8, 8)
        self.head = nn.Linear(32, 7)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, observation: Observation, *, deterministic: bool) -> Tensor:
        seen = self.image(observation.image).flatten(2).mean(-1)
        both = torch.cat([self.joints(observation.joints), seen], -1).relu()
        action = self.head(both).tanh()
        return action if deterministic else action + torch.randn_like(action)


class GCN(nn.Module):
    """A graph network: edges are pairs of nodes, messages are added up where they end."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, width), nn.Linear(width, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        weight = torch.ones_like(x[:1, :1]) if edge_weight is None else edge_weight[:, None]
        for layer in (self.first, self.second):
            messages = layer(x)[edge_index[0]] * weight
            x = torch.zeros(x.shape[0], messages.shape[1]).index_add(0, edge_index[1], messages)
            x = x.relu() if layer is self.first else x
        return x


class PointNet(nn.Module):
    """A cloud of points: any number of them, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = nn.Conv1d(3, 16, 1), nn.Linear(16, 5)

    def forward(self, points: Tensor) -> Tensor:
        return self.all(self.each(points).relu().amax(-1))


class UNet(nn.Module):
    """Segmentation: three times down and up again, so that sizes are multiples of 8."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(3))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(3))
        self.end = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.start(image), []
        for down in self.down:
            skips.append(x)
            x = down(x).relu()
        for up in self.up:
            x = up(x).relu() + skips.pop()
        return self.end(x)


class SuperResolution(nn.Module):
    """Sub-pixel convolution: four times as high and as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.out = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return F.pixel_shuffle(self.out(self.features(image).tanh()), 4)


class Speech(nn.Module):
    """Text to speech: padded sentences with their lengths; nothing comes out of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.mel = nn.Linear(16, 10)

    def forward(self, phonemes: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(phonemes.shape[1], device=phonemes.device)
        padding = places[None] >= lengths[:, None]
        y = self.layer(self.table(phonemes), src_key_padding_mask=padding)
        return self.mel(y).masked_fill(padding[..., None], 0.0)


class Pooled(nn.Module):
    """Sentence embeddings: the mean over the words that the mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(50, 16), nn.Linear(16, 8)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(torch.float32)
        mean = (self.table(ids) * kept).sum(1) / kept.sum(1)
        return F.normalize(self.out(mean), dim=-1)


class YOLO(nn.Module):
    """A one-stage detector before training: boxes and scores of a grid."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(),
            nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(16, 5 + classes, 1)
        nn.init.constant_(self.head.bias, -4.6)
        nn.init.normal_(self.head.weight, std=1e-6)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(self.stem(image)).flatten(2).transpose(1, 2)
        return y[..., :4].exp(), y[..., 4:].sigmoid()


class Forecast(nn.Module):
    """A forecast from the past, known future features and times that rise."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.future = nn.GRU(2, 8, batch_first=True), nn.Linear(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, past: Tensor, future: Tensor, times: Tensor) -> Tensor:
        steps = times.diff(dim=-1).unsqueeze(-1)
        state = self.past(torch.cat([past, steps], -1))[1][0]
        return self.out((state[:, None] + self.future(future)).tanh()).squeeze(-1)


class DecoderStep(nn.Module):
    """One step of a decoder: its cache is a list of pairs, its mask covers past and new token."""

    def __init__(self, layers: int = 2, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Embedding(60, width)
        self.projections = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 60)

    def forward(
        self, token: Tensor, mask: Tensor, past: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        x, new = self.table(token), []
        dropped = (1.0 - mask.to(x.dtype)) * -1e4
        for projection, out, (keys, values) in zip(self.projections, self.outs, past, strict=True):
            parts = projection(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = parts.unbind(0)
            keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
            new.append((keys, values))
            scores = query @ keys.transpose(2, 3) / keys.shape[-1] ** 0.5 + dropped[:, None, None]
            x = x + out((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
        return self.head(x), new
