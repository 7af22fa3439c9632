"""Devices: what a plan knows of each, and where it is from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from zhen.errors import ZhenError, did_you_mean

Precision = Literal["bfloat16", "float8", "float32"]
Kernel = Literal["flash-1", "flash-2", "flash-3"]

LINK_SHARE = 0.8
"""What collectives reach of a link's nominal rate: nccl-tests' sums over eight A100 give 230 to 250 of 300 GB/s
(docs.alayanew.com, May 2026). Switches that sum by themselves (H100) give more, for sums alone: not counted."""

ATTENTION = {
    ("flash-1", "ampere"): 0.325,
    ("flash-2", "ampere"): 0.615,
    ("flash-1", "hopper"): 0.156,
    ("flash-2", "hopper"): 0.35,
    ("flash-3", "hopper"): 0.75,
}
"""Share of a device's peak that attention kernels reach, (kernel, generation). FlashAttention-2's abstract
(arXiv 2307.08691): its forerunner 25 to 40 %, itself 50 to 73 % of an A100, middles taken. FlashAttention-3's
(2407.08608): 75 % of an H100 where FlashAttention-2 has 35 %. The oldest on Hopper: as the second one fell, 35/73."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator in its usual machine. Rates are makers' dense figures; what is reached of them is `efficiency`."""

    name: str
    generation: str
    peak: dict[str, float]
    """FLOP/s by precision, dense."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes/s of its memory."""
    link: float
    """Bytes/s, one way, to the other devices of its machine."""
    network: float
    """Bytes/s, one way, to other machines, each device's own share."""
    per_node: int
    """Devices of a machine."""
    watts: float
    """At the wall of the device, at full load."""
    price: float
    """US$ an hour to rent it; `--price` says another."""
    efficiency: dict[str, float]
    """Share of the peak that matrix products reach, by precision: the one fitted number of a device."""
    fitted: str
    """What that is from."""
    source: str
    """Where the other figures are from."""

    unlimited: float | None = None
    """bfloat16 efficiency of the same chip at full power, where this one is held below: attention loses as much."""
    attends: float | None = None
    """Share of the peak that attention reaches, where that was measured."""
    between: float = 1.0
    """How many times what memory takes for it goes into what lies between products and attention: more than 1 where
    computing it shows, as measured."""

    kept: int | None = None
    """Bytes a token that a layer keeps, where it is not as on GPUs."""

    @property
    def format(self) -> Precision:
        """What everything multiplies in but the products that run in float8."""
        return "bfloat16" if "bfloat16" in self.peak else "float32"

    def attention(self, kernel: Kernel) -> float:
        """Share of the peak (of `format`) that attention reaches. Ada is taken for Ampere."""
        if self.attends is not None:
            return self.attends
        generation = "hopper" if self.generation == "hopper" else "ampere"
        kernel = kernel if (kernel, generation) in ATTENTION else "flash-2"
        slowed = 1.0 if self.unlimited is None else self.efficiency["bfloat16"] / self.unlimited
        return ATTENTION[kernel, generation] * slowed


_DGX_H100 = "NVIDIA H100 data sheet, SXM: 989 (bfloat16) and 1,979 TFLOP/s (float8) dense; 400 Gb/s a device"
_A100 = "NVIDIA A100 data sheet, SXM 80 GB: 312 TFLOP/s, 2.04 TB/s, NVLink 600 GB/s both ways; 200 Gb/s a device"
_RENT = "rent: specialised providers, May 2026 (mercatus-ai.com, cloud-gpu-pricing), middle of the range"
_FOUNDRY = "llm-foundry's table, 7B at 2,048 tokens on 8 {}"
_TITAN = "torchtitan's tables of December 2024, Llama 3.1 8B on 8, compiled"

DEVICES = {
    device.name: device
    for device in (
        Device(
            name="H100",
            generation="hopper",
            peak={"bfloat16": 989e12, "float8": 1979e12},
            memory=80e9,
            bandwidth=3.35e12,
            link=450e9,
            network=50e9,
            per_node=8,
            watts=700,
            price=3.0,
            efficiency={"bfloat16": 0.585, "float8": 0.452},
            fitted=f"bfloat16: {_FOUNDRY.format('H100')}; float8: as H200, the same chip",
            source=f"{_DGX_H100}; 80 GB, 3.35 TB/s, NVLink 900 GB/s both ways, 700 W; {_RENT}",
        ),
        Device(
            name="H100-500W",
            generation="hopper",
            peak={"bfloat16": 989e12, "float8": 1979e12},
            memory=96e9,
            bandwidth=2.4e12,
            link=450e9,
            network=50e9,
            per_node=8,
            watts=500,
            price=3.0,
            efficiency={"bfloat16": 0.496, "float8": 0.377},
            unlimited=0.585,
            fitted=_TITAN,
            source=f"{_DGX_H100}; 96 GB of HBM2e at 2.4 TB/s, limited to 500 W (torchtitan, benchmarks/); {_RENT}",
        ),
        Device(
            name="H200",
            generation="hopper",
            peak={"bfloat16": 989e12, "float8": 1979e12},
            memory=141e9,
            bandwidth=4.8e12,
            link=450e9,
            network=50e9,
            per_node=8,
            watts=700,
            price=4.0,
            efficiency={"bfloat16": 0.585, "float8": 0.452},
            fitted="bfloat16: as H100, the same chip; float8: torchtitan's table of June 2025, 8B on 32 H200",
            source=f"NVIDIA H200 data sheet: 141 GB, 4.8 TB/s, else as H100; {_RENT}",
        ),
        Device(
            name="H800",
            generation="hopper",
            peak={"bfloat16": 989e12, "float8": 1979e12},
            memory=80e9,
            bandwidth=3.35e12,
            link=200e9,
            network=50e9,
            per_node=8,
            watts=700,
            price=3.0,
            efficiency={"bfloat16": 0.585, "float8": 0.452},
            fitted="as H100, the same chip",
            source="as H100 with NVLink at 400 GB/s both ways (DeepSeek-V3, arXiv 2412.19437); rent as H100",
        ),
        Device(
            name="A100",
            generation="ampere",
            peak={"bfloat16": 312e12},
            memory=80e9,
            bandwidth=2.04e12,
            link=300e9,
            network=25e9,
            per_node=8,
            watts=400,
            price=1.3,
            efficiency={"bfloat16": 0.723},
            fitted=_FOUNDRY.format("A100"),
            source=f"{_A100}; {_RENT}",
        ),
        Device(
            name="A800",
            generation="ampere",
            peak={"bfloat16": 312e12},
            memory=80e9,
            bandwidth=2.04e12,
            link=200e9,
            network=25e9,
            per_node=8,
            watts=400,
            price=1.3,
            efficiency={"bfloat16": 0.723},
            fitted="as A100, the same chip",
            source="as A100 with NVLink at 400 GB/s both ways (NVIDIA's statement of 7 November 2022); rent as A100",
        ),
        Device(
            name="4090",
            generation="ada",
            peak={"bfloat16": 165.2e12, "float8": 330.3e12},
            memory=24e9,
            bandwidth=1.008e12,
            link=32e9,
            network=12.5e9,
            per_node=8,
            watts=450,
            price=0.5,
            efficiency={"bfloat16": 0.723, "float8": 0.452},
            fitted="not fitted: A100's share for bfloat16, H100's for float8",
            source="NVIDIA Ada architecture paper: 165.2 (bfloat16) and 330.3 TFLOP/s (float8) dense with "
            "sums in float32, 1,008 GB/s, 450 W; PCIe 4.0 x16 between cards; network and rent "
            "assumed (100 Gb/s, US$ 0.5)",
        ),
        Device(
            name="3090",
            generation="ampere",
            peak={"bfloat16": 71e12},
            memory=24e9,
            bandwidth=0.936e12,
            link=32e9,
            network=12.5e9,
            per_node=8,
            watts=350,
            price=0.25,
            efficiency={"bfloat16": 0.723},
            fitted="not fitted: A100's share",
            source="NVIDIA GA102 architecture paper: 71 TFLOP/s dense with sums in float32, 936 GB/s, 350 W; "
            "PCIe 4.0 x16 between cards; network and rent assumed (100 Gb/s, US$ 0.25)",
        ),
    )
}


def device(name: str, place: str = "--device", file: Path | None = None) -> Device:
    """The device called `name`, in whatever case. Raises ZhenError with the nearest name, and where it was given."""
    known = {key.lower(): value for key, value in DEVICES.items()}
    if name.lower() not in known:
        raise ZhenError(
            f'unknown device "{name}"',
            expected="one of " + ", ".join([*DEVICES, "here"]),
            file=file,
            place=place,
            hint=did_you_mean(name, [*DEVICES, "here"]),
        )
    return known[name.lower()]
