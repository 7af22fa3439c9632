"""Which number format a device multiplies in where nobody says: by what its CPU has, as PyTorch names it."""

from __future__ import annotations

import pytest
import torch

from zhen.model.linear import product_dtype

AVX2 = {"architecture": "x86_64", "avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (AVX2, torch.float32),
        (AVX2 | {"avx512_f": True, "avx512_vnni": True}, torch.float32),  # Intel's Cascade Lake
        (AVX2 | {"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),  # AMD's Zen 4
        (AVX2 | {"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),  # Intel's Sapphire Rapids
        ({"architecture": "aarch64", "neon": True, "bf16": False, "sve": False}, torch.float32),
        ({"architecture": "aarch64", "neon": True, "bf16": True, "sve": False}, torch.bfloat16),
        ({"architecture": "aarch64", "neon": True, "sve": True, "sve_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_a_cpu_multiplies_in_bfloat16_where_it_has_units_for_it(
    found: dict[str, object], due: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert product_dtype(torch.device("cpu")) == due
    assert product_dtype(torch.device("cuda")) == torch.bfloat16
