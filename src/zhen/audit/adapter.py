"""Check of a release's adapter: what tuning added lies beside the weights that hold it already, and fits them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zhen.audit.finding import Finding, fails, holds
from zhen.audit.folder import Folder
from zhen.checkpoint.safetensors import read_header
from zhen.errors import ZhenError
from zhen.model.size import shapes

ADAPTER = "adapter/"
WEIGHTS, CONFIG = ADAPTER + "adapter_model.safetensors", ADAPTER + "adapter_config.json"
"""PEFT's names. No loader takes them from a folder of this name unasked."""

_CLAIM = "the adapter fits the weights beside it"


def check_adapter(folder: Folder) -> Iterator[Finding]:
    """Nothing where there is none. That it is the recorded one is `claims.weights`."""
    if not folder.has(WEIGHTS) or folder.config is None:
        return
    try:
        rank = folder.object(CONFIG).get("r")
        if not folder.inside(WEIGHTS):
            raise ZhenError("is a link out of the folder, or no file", file=WEIGHTS)
        found = {name: tuple(info.shape) for name, info in read_header(folder.root / WEIGHTS).tensors.items()}
    except ZhenError as error:
        yield fails("adapter.fits", _CLAIM, error.text(), fix="release the adapter of the recorded run", file=WEIGHTS)
        return
    due: dict[str, tuple[Any, ...]] = {}
    for name, shape in shapes(folder.config).items():
        if len(shape) == 2 and ".layers." in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            due[f"{stem}.lora_A.weight"] = (rank, shape[1])
            due[f"{stem}.lora_B.weight"] = (shape[0], rank)
    others = [name for name, shape in found.items() if due.get(name) != shape]
    if others or not found:
        evidence = f"{others[0]} is {list(found[others[0]])}" if others else "it holds nothing"
        yield fails("adapter.fits", _CLAIM, evidence, fix="release the adapter of the recorded run", file=WEIGHTS)
    else:
        yield holds("adapter.fits", _CLAIM, f"{len(found)} matrices of rank {rank}")
