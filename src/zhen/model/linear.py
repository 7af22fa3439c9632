"""The model's matrices: as parameters for training, and laid out once, several as one, for inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.model.packed import Packed, joined


def product_dtype(device: torch.device) -> torch.dtype:
    """The number format that matrix products on `device` run in unless somebody says otherwise, the faster one.

    bfloat16 on GPUs and on CPUs with units for it (AVX512-BF16, AMX, ARM's and SVE's). Else float32: without them
    PyTorch multiplies bfloat16 a number at a time, 8 to 10 times slower (256 × 3072 × 512 on an AMD EPYC with AVX2:
    124 ms against 13).
    """
    has = torch.cpu.get_capabilities()
    units = any(name.endswith("bf16") and flag is True for name, flag in has.items())
    return torch.bfloat16 if device.type != "cpu" or units else torch.float32


class Linear(nn.Linear):
    """A matrix without bias, left unfilled: weights come from `initialise` or from a checkpoint."""

    product: Product | None = None
    """What computes instead of the parameter, once `Transformer.join` was called."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draw nothing: fresh weights come from `initialise`, by name and seed."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(x, self.weight) if self.product is None else self.product(x)


class Product:
    """Matrices over the same input as one, for inference; on a CPU laid out as oneDNN wants them.

    PyTorch's own product lays a matrix out anew each time: of one row in bfloat16 that is half of the time (3072 × 512
    on an AMD EPYC: 256 µs against 109). What the parameters held is here alone from then on, so that nothing is kept
    twice: they keep shape and dtype, on the meta device, and whoever reads them is told by an error.
    """

    _LAID_OUT_FOR = 64
    """Rows that the layout is best for. For 1 row it is no worse, and its sums keep their order from 2 rows on."""

    rows: int | None = None
    """Rows that are computed at a time, where the bits of one depend on the number of more; None: all."""

    def __init__(self, parts: Sequence[Linear]) -> None:
        weight = torch.cat([part.weight.detach() for part in parts]) if len(parts) > 1 else parts[0].weight.detach()
        self.shape = weight.shape
        self._laid_out = _onednn_computes(weight)
        if self._laid_out:
            self._compute = torch.ops.mkldnn._linear_pointwise.default
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, self._LAID_OUT_FOR)
        self._weight = weight
        for part in parts:
            part.weight = nn.Parameter(part.weight.detach().to("meta"), requires_grad=False)

    def dense(self) -> Tensor:
        """[outputs of all, inputs], as the parameters had them."""
        return self._weight.to_dense() if self._laid_out else self._weight

    def __call__(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs of all]."""
        return by_rows(self._whole, x, self.rows)

    def _whole(self, x: Tensor) -> Tensor:
        if not self._laid_out:
            return F.linear(x, self._weight)
        out: Tensor = self._compute(x, self._weight, None, "none", [], "")
        return out


def by_rows(product: Callable[[Tensor], Tensor], x: Tensor, rows: int | None) -> Tensor:
    """`product` of x [..., N, inputs] by at most `rows` of the N at a time, in parts as even as can be."""
    count = x.shape[-2]
    if rows is None or count <= rows:
        return product(x)
    return torch.cat([product(part) for part in x.tensor_split(-(-count // rows), dim=-2)], dim=-2)


def _onednn_computes(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    wide = weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return wide or weight.dtype == torch.float32


def product_of(parts: Sequence[nn.Module]) -> Product | Packed | None:
    """None where matrices are of several kinds, or of another."""
    if packed := [part for part in parts if type(part) is Packed]:
        return joined(packed) if len(packed) == len(parts) else None
    plain = [part for part in parts if type(part) is Linear]
    return Product(plain) if len(plain) == len(parts) else None
