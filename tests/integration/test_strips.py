"""Float64 convolutions in strips, beside the same ones in one piece."""

from __future__ import annotations

import itertools

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("most", [1 << 14, 1 << 18], ids=["rows", "samples"])
def test_strips_are_the_convolution(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    import torch

    from converter.worker.reference import strips

    monkeypatch.setattr(strips, "_MOST_BYTES", most)
    torch.manual_seed(0)
    image = torch.randn(2, 4, 23, 19, dtype=torch.float64)
    video = torch.randn(2, 4, 9, 11, 7, dtype=torch.float64)
    parameters = itertools.product((2, 3, 5), (1, 2, 3), (0, 2), (1, 2), (1, 2))
    layers = [(torch.nn.Conv2d(4, 6, *values), image) for values in parameters]
    layers += [(torch.nn.Conv2d(4, 6, (5, 1), (2, 1), (2, 0), bias=False), image)]
    layers += [(torch.nn.Conv3d(4, 6, 3, stride, 1), video) for stride in (1, 2)]
    layers += [(torch.nn.ConvTranspose2d(4, 6, 3, 2), image), (torch.nn.Conv2d(4, 6, 1), image)]
    for layer, x in layers:
        double = layer.double()
        with torch.no_grad():
            whole = double(x)
            with strips.Strips():
                found = double(x)
        assert found.shape == whole.shape, layer
        assert torch.allclose(found, whole, rtol=1e-12, atol=1e-12), layer


def test_a_large_one_is_done_piece_by_piece_and_float32_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from converter.worker.reference import strips

    called: list[int] = []
    plain = strips._by_rows

    def counted(count: int, *arguments: object) -> torch.Tensor:
        called.append(count)
        return plain(count, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(strips, "_by_rows", counted)
    monkeypatch.setattr(strips, "_MOST_BYTES", 32 << 20)
    layer = torch.nn.Conv2d(8, 4, 5, padding=2)
    x = torch.randn(1, 8, 200, 200)
    with torch.no_grad(), strips.Strips():
        layer(x)
        assert called == []
        layer.double()(x.double())
    assert called == [2]  # 8 channels x 25 x 40,000 places x 8 bytes = 64 MB: two of 32 MiB
