"""Published training speeds, and the models and layouts that they were measured with, as `zhen plan` takes them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from zhen.model.config import ModelConfig
from zhen.plan.devices import DEVICES, Device, Kernel
from zhen.plan.layouts import Layout
from zhen.plan.speed import step


class Row(NamedTuple):
    """A row of a table: tokens a second and device, and what was run."""

    name: str
    device: Device
    config: ModelConfig
    layout: Layout
    length: int
    tokens_per_step: int
    published: float
    kernel: Kernel

    def predicted(self, efficiency: float | None = None) -> float:
        """Tokens a second and device; `efficiency` in the place of the device's own."""
        device = self.device
        if efficiency is not None:
            device = msgspec.structs.replace(
                device,
                efficiency={self.layout.precision: efficiency}
                | {key: value for key, value in device.efficiency.items() if key != self.layout.precision},
            )
        seconds = step(self.config, device, self.layout, self.length, self.tokens_per_step, self.kernel).seconds
        return self.tokens_per_step / seconds / self.layout.devices

    @property
    def error(self) -> float:
        """Predicted against published, less one."""
        return self.predicted() / self.published - 1


def fit(row: Row) -> float:
    """The efficiency with which a row is predicted exactly, by halving."""
    low, high = 0.01, 1.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if row.predicted(middle) < row.published else (low, middle)
    return low


# width, layers, heads of MPT: llm-foundry, scripts/train/yamls/pretrain
MPT = {
    "125m": (768, 12, 12),
    "350m": (1024, 24, 16),
    "760m": (1536, 24, 12),
    "1b": (2048, 24, 16),
    "3b": (2560, 32, 20),
    "7b": (4096, 32, 32),
    "13b": (5120, 40, 40),
    "30b": (7168, 48, 56),
    "70b": (8192, 80, 64),
}

# llm-foundry, scripts/train/benchmarking/README.md (061f2c7): model, length, GPUs, sequences of a micro-batch,
# micro-batches of a step, whether all activations are computed again, tokens a second and GPU. bfloat16, FSDP, at 80 GB
FOUNDRY_H100 = """
70b 2048 64 8 4 1 1039
70b 2048 32 2 16 1 882
30b 8192 8 1 21 1 1384
30b 4096 8 1 21 1 1802
30b 2048 32 14 3 1 2308
30b 2048 16 10 3 1 2263
30b 2048 8 3 21 1 2002
30b 1024 8 6 21 1 2084
13b 32768 8 1 3 1 1976
13b 16384 8 3 3 1 2985
13b 4096 8 10 3 1 4717
13b 2048 64 2 1 0 4800
13b 2048 32 2 1 0 4811
13b 2048 16 2 1 0 4767
13b 2048 8 2 1 0 4792
13b 1024 8 40 3 1 5502
7b 65536 8 1 2 1 1956
7b 32768 8 2 2 1 3318
7b 8192 8 8 2 1 6935
7b 4096 8 16 2 1 8611
7b 2048 8 6 1 0 10643
7b 1024 8 64 2 1 10203
3b 65536 8 1 2 1 3262
3b 32768 8 3 6 1 5873
3b 16384 8 1 6 0 11152
3b 8192 8 3 6 0 16578
3b 4096 8 5 6 0 20964
3b 2048 64 6 3 0 22525
3b 2048 32 6 3 0 23021
3b 2048 16 10 3 0 24142
3b 1024 8 20 6 0 27046
3b 512 8 40 6 0 27965
1b 65536 8 1 2 1 5506
1b 32768 8 1 4 0 12025
1b 16384 8 2 4 0 19649
1b 8192 8 3 4 0 29157
1b 4096 8 7 4 0 38535
1b 2048 64 20 1 0 44402
1b 2048 32 20 1 0 45130
1b 2048 16 20 1 0 46037
1b 2048 8 14 1 0 45455
1b 1024 8 18 4 0 48910
1b 512 8 56 4 0 52275
760m 32768 8 1 2 0 16291
760m 16384 8 3 2 0 27815
760m 8192 8 6 2 0 41825
760m 4096 8 12 2 0 55459
760m 2048 32 24 1 0 67971
760m 2048 16 24 1 0 68551
760m 2048 8 24 2 0 63147
760m 1024 8 48 2 0 78581
760m 512 8 96 2 0 83749
"""

FOUNDRY_A100 = """
70b 2048 64 8 4 1 410
70b 2048 32 2 16 1 373
30b 8192 8 1 21 1 574
30b 4096 8 1 21 1 814
30b 2048 8 3 21 1 916
30b 1024 8 6 21 1 946
30b 512 8 12 21 1 967
13b 32768 8 1 3 1 1016
13b 16384 8 3 3 1 1431
13b 8192 8 5 3 1 1795
13b 4096 8 10 3 1 2060
13b 2048 8 2 3 0 2262
13b 1024 8 40 3 1 2330
7b 65536 8 1 2 1 1013
7b 32768 8 2 2 1 1672
7b 16384 8 4 2 1 2453
7b 8192 8 8 2 1 3206
7b 4096 8 16 2 1 3684
7b 2048 8 6 2 0 4641
7b 1024 8 64 2 1 4357
3b 65536 8 1 2 1 1767
3b 32768 8 3 6 1 3029
3b 16384 8 1 6 0 5529
3b 8192 8 3 6 0 7695
3b 4096 8 5 6 0 9457
3b 2048 8 10 2 0 10811
3b 1024 8 20 6 0 11580
3b 512 8 40 6 0 12127
1b 65536 8 1 2 1 3044
1b 32768 8 1 4 0 6275
1b 16384 8 2 4 0 9956
1b 8192 8 3 4 0 13814
1b 4096 8 7 4 0 17807
1b 2048 8 14 4 0 20513
1b 1024 8 18 4 0 22112
1b 512 8 56 4 0 23148
760m 65536 8 1 2 1 4143
760m 32768 8 1 2 0 8802
760m 16384 8 3 2 0 14274
760m 8192 8 6 2 0 20933
760m 4096 8 12 2 0 27351
760m 2048 8 24 2 0 32434
760m 1024 8 48 2 0 29765
760m 512 8 96 2 0 29446
350m 65536 8 1 2 0 7524
350m 32768 8 2 2 0 13652
350m 16384 8 4 2 0 23559
350m 8192 8 8 2 0 36569
350m 4096 8 16 2 0 49555
350m 2048 8 32 2 0 58782
350m 1024 8 64 2 0 64813
350m 512 8 128 2 0 69330
125m 65536 8 1 2 0 20368
125m 32768 8 2 2 0 36407
125m 16384 8 4 2 0 60040
125m 8192 8 8 2 0 90392
125m 4096 8 16 2 0 118396
125m 2048 8 40 2 0 142830
125m 2048 8 32 2 0 141737
125m 1024 8 64 2 0 156468
125m 512 8 128 2 0 165681
"""


def mpt(size: str, length: int) -> ModelConfig:
    """MPT as a LLaMA of the same products: its two matrices of 4 widths are three of 8/3. Its head is its embedding."""
    hidden, layers, heads = MPT[size]
    return ModelConfig(
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=50_368,
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )


def foundry(table: str, device: str) -> list[Row]:
    """llm-foundry's rows. Attention was FlashAttention's first form, in Triton; nothing was compiled."""
    rows = []
    for line in table.split("\n")[1:-1]:
        size, *numbers = line.split()
        length, gpus, micro, parts, again, speed = map(int, numbers)
        layout = Layout(shards=gpus, micro_batch=micro, recompute="full" if again else "none", compiled=COMPILED)
        tokens = gpus * micro * parts * length
        name = f"{size}, {length:,}, {gpus} GPUs"
        rows.append(Row(name, DEVICES[device], mpt(size, length), layout, length, tokens, speed, "flash-1"))
    return rows


COMPILED = True
"""MPT's own parts between products are few and fused (low-precision LayerNorm, no gate), nearer to compiled ones."""

LLAMA_8B = ModelConfig(
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128_256,
    max_position_embeddings=8192,
)
LLAMA_70B = ModelConfig(
    hidden_size=8192,
    intermediate_size=28_672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    vocab_size=128_256,
    max_position_embeddings=8192,
)


def titan() -> list[Row]:
    """torchtitan's rows: benchmarks/ of December 2024, of June 2025 (H200), and the async-TP table of June 2025."""
    found = []

    def row(device: str, name: str, config: ModelConfig, length: int, speed: float, **how: object) -> None:
        layout = Layout(**how)  # type: ignore[arg-type]
        tokens = layout.data_parallel * layout.micro_batch * length
        found.append(Row(name, DEVICES[device], config, layout, length, tokens, speed, "flash-2"))

    some = {"recompute": "selective", "micro_batch": 2}
    for gpus, speeds in ((8, (5762, 6667, 8532)), (128, (5605, 6514, 8380))):
        for speed, compiled, precision in zip(
            speeds, (False, True, True), ("bfloat16", "bfloat16", "float8"), strict=True
        ):
            name = f"8B, {gpus} GPUs, {'compiled' if compiled else 'eager'}, {precision}"
            row("H100-500W", name, LLAMA_8B, 8192, speed, shards=gpus, compiled=compiled, precision=precision, **some)
    for context, length, speed in ((1, 32_768, 3890), (2, 65_536, 2540), (4, 131_072, 1071), (8, 262_144, 548)):
        how = {"shards": 8 // context, "context": context, "recompute": "full", "precision": "float8"}
        row("H100-500W", f"8B, 8 GPUs, CP {context}, {length:,}, float8", LLAMA_8B, length, speed, **how)
    large = {"shards": 32, "tensor": 8, "micro_batch": 16, "recompute": "full"}
    row("H100-500W", "70B, 256 GPUs, TP 8, bfloat16", LLAMA_70B, 8192, 597, **large)
    row("H100-500W", "70B, 256 GPUs, TP 8, float8", LLAMA_70B, 8192, 829, precision="float8", **large)
    for gpus, speed in ((32, 10_938), (64, 10_753)):
        row("H200", f"8B, {gpus} GPUs, float8", LLAMA_8B, 8192, speed, shards=gpus, precision="float8", **some)
    return found
