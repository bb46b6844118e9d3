"""Enlarge a picture with an ONNX file: ``python upscale.py MODEL.onnx IN.png OUT.png``.

Needs onnxruntime, NumPy and Pillow: neither PyTorch nor the converter.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from PIL import Image


def upscaled(model: str, picture: Image.Image) -> Image.Image:
    """The picture as the model enlarges it."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255  # height×width×3, 0…1
    batch = pixels.transpose(2, 0, 1)[np.newaxis]  # 1×3×height×width
    (large,) = session.run(None, {session.get_inputs()[0].name: batch})
    rounded = (large[0].transpose(1, 2, 0).clip(0, 1) * 255).round()
    return Image.fromarray(rounded.astype(np.uint8))


if __name__ == "__main__":
    file, source, target = sys.argv[1:]
    upscaled(file, Image.open(source)).save(target)
