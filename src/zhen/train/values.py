"""What a training starts from: fresh weights or a checkpoint's, of each tensor only what this process keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zhen.checkpoint.load import open_llama, view_tensor
from zhen.checkpoint.views import View
from zhen.model.config import ModelConfig
from zhen.model.transformer import fresh
from zhen.train.cut import Box, box_of

Values = Callable[[str, Box], Tensor]
"""What belongs into the box of a parameter, by its name."""


class Start(NamedTuple):
    """A model to come."""

    config: ModelConfig
    values: Values


def fresh_start(config: ModelConfig, seed: int) -> Start:
    """The model that `initialise` makes: each tensor is drawn whole, so that the parts fit however they are cut."""
    return Start(config, lambda name, box: box.of(fresh(config, name, box.shape, seed)))


def stored_start(folder: str | Path) -> Start:
    """The model in a checkpoint, as `load_model` takes it; a part alone is read of a tensor that is stored in one."""
    config, views = open_llama(folder)
    return Start(config, lambda name, box: _part(views[name], box))


def _part(view: View, box: Box) -> Tensor:
    return view_tensor(view._replace(read=lambda: view.read()[box.slices]))


@torch.no_grad()
def fill(parameters: Mapping[str, nn.Parameter], values: Values) -> None:
    """Set what this process holds of each parameter, in its dtype."""
    for name, parameter in parameters.items():
        box = box_of(parameter)
        box.local.copy_(values(name, box))
