"""Writes `hub/` as a model hub has it: weights in shards, an index, of a model with its head."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from transformers import DistilBertConfig, DistilBertForMaskedLM

HERE = Path(__file__).parent


def main() -> None:
    entry = yaml.safe_load((HERE / "model" / "sentence_folder.yaml").read_text())
    config = {k: v for k, v in entry["kwargs"]["config"].items() if k != "_target_"}
    torch.manual_seed(7)
    model = DistilBertForMaskedLM(DistilBertConfig(**config))
    model.save_pretrained("hub", max_shard_size="40KB")


if __name__ == "__main__":
    main()
