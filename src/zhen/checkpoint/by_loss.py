"""Which map of an unknown naming is right, told by the loss on text: under the wrong one a trained model is worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zhen.checkpoint.load import tensor_from
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.unknown import NORMS, Map, Shapes
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, from_config_json
from zhen.model.likelihood import token_logprobs
from zhen.model.transformer import Transformer
from zhen.tokenizer.load import Tokenizer

ROUNDS = (8, 32, 128)
"""Sequences by which the maps are judged, round by round: few for many maps, many for the last ones."""
SIEVE = 2
"""Sequences by which maps are sieved first; two maps that differ in the order of the norms alone, which costs little,
pass or fail together."""
MARGIN = 1.0
"""Nats a token by which a map may be worse than the tokens' frequencies there: under the right map a model that has
learnt something is far below them."""
LENGTH = 96
"""Tokens of a sequence; shorter where the model's context is."""
MOST = 4_000
"""Maps that are tried at most."""
SURE = 6.0
"""Standard errors of the mean paired difference by which a map must be worse to be ruled out. A map that is as good as
the best is ruled out so by 8 sequences once in 3,000 times, by 128 once in 50 million."""
HEAD_SIZES = (128, 64, 80, 96, 256, 112, 48, 32, 24, 16, 8)
"""Sizes of a head that are tried where config.json says nothing of heads, the commonest first."""


class _Trial(NamedTuple):
    """One map under one way to cut the queries into heads."""

    map: Map
    config: ModelConfig


class TextLosses:
    """A model's loss on sequences of text, under each of the maps that its tensors allow."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self._checkpoint = checkpoint
        ids = [token for text in texts for token in (tokenizer.end_of_text, *tokenizer.encode(text))]
        length = min(LENGTH, int((checkpoint.config or {}).get("max_position_embeddings", LENGTH)))
        count = min(len(ids) // length, ROUNDS[-1])
        if count < ROUNDS[0]:
            found = f"{len(ids):,} tokens"
            raise ZhenError(found, expected=f"at least {ROUNDS[0] * length:,}", place="--text")
        places = np.linspace(0, len(ids) - length, count).astype(int)
        self._tokens = torch.tensor([ids[at : at + length] for at in places.tolist()])
        self._tensors: dict[str, torch.Tensor] = {}
        self._models: dict[ModelConfig, Transformer] = {}

    def judge(self, found: Shapes) -> tuple[list[Map], str]:
        """The maps, best first, that the loss doesn't rule out, and what to say; none where it tells nothing.

        That is so unless the best map predicts the text better than the frequencies of its tokens do: a model that has
        learnt nothing is no witness.
        """
        trials = [_Trial(each, config) for each in found.maps for config in self._configs(found, each)]
        if len(trials) > MOST:
            return [], f"{len(trials)} maps are too many to try; give the sizes in config.json"
        known = _frequencies(self._tokens)
        trials, least = self._sieved(found, trials, known + MARGIN)
        means = np.array([least])
        for count in ROUNDS:
            if not trials:
                break
            kept, means = _left(np.stack([self._losses(found, trial, count) for trial in trials]))
            trials = [trials[at] for at in kept]
            if len(trials) == 1:
                break
        best = f"{means[0]:.3f} nats a token under the best map"
        if not trials or means[0] >= known:
            return [], f"{best}, {known:.3f} by the tokens' frequencies alone: that tells nothing"
        maps: list[Map] = []
        for trial in trials:
            if trial.map not in maps:
                maps.append(trial.map)
        equal = f"; {len(maps) - 1} more within {SURE:g} standard errors" if len(maps) > 1 else ""
        return maps, best + equal

    def _sieved(self, found: Shapes, trials: list[_Trial], most: float) -> tuple[list[_Trial], float]:
        """The trials that cost at most `most` nats a token on a few sequences, and the least that any costs."""
        losses: dict[tuple[object, ...], float] = {}
        keys = [
            (trial.config.head_dim, *(trial.map[role] for role in trial.map if role not in NORMS)) for trial in trials
        ]
        for key, trial in zip(keys, trials, strict=True):
            if key not in losses:
                losses[key] = float(self._losses(found, trial, SIEVE).mean())
        return [each for key, each in zip(keys, trials, strict=True) if losses[key] <= most], min(losses.values())

    def _configs(self, found: Shapes, chosen: Map) -> list[ModelConfig]:
        """The configurations under which a map can be run: one where config.json says how many heads there are."""
        shape = {role: found.by_name[name].shape for role, name in chosen.items()}
        stated = dict(self._checkpoint.config or {})
        rows, keys = (shape[f"model.layers.N.self_attn.{part}_proj.weight"][0] for part in "qk")
        vocabulary, width = shape["model.embed_tokens.weight"]
        values = {
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 2_048,
            **stated,
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": width,
            "vocab_size": vocabulary,
            "intermediate_size": shape["model.layers.N.mlp.gate_proj.weight"][0],
            "num_hidden_layers": found.layers,
            "tie_word_embeddings": "lm_head.weight" not in chosen,
        }
        heads = stated.get("num_attention_heads")
        sizes = [rows // heads] if isinstance(heads, int) and heads > 0 else HEAD_SIZES
        return [
            from_config_json(
                values | {"num_attention_heads": rows // size, "num_key_value_heads": keys // size, "head_dim": size}
            )
            for size in sizes
            if size and rows % size == 0 and keys % size == 0
        ]

    @torch.no_grad()
    def _losses(self, found: Shapes, trial: _Trial, count: int) -> NDArray[np.float64]:
        """float64[sequences]: mean nats a token of each of the first `count` sequences."""
        model = self._model(trial.config)
        state = {
            role.replace(".N.", f".{number}."): self._tensor(member)
            for role, name in trial.map.items()
            for number, member in enumerate(found.by_name[name].members)
        }
        model.load_state_dict(state, assign=True)
        batches = torch.split(self._tokens[:count], 32)
        return -torch.cat([token_logprobs(model, batch).mean(dim=1) for batch in batches]).double().numpy()

    def _model(self, config: ModelConfig) -> Transformer:
        """A model without weights, made once."""
        if config not in self._models:
            with torch.device("meta"):
                self._models[config] = Transformer(config)
        return self._models[config]

    def _tensor(self, name: str) -> torch.Tensor:
        if name not in self._tensors:
            info = self._checkpoint.tensors[name]
            self._tensors[name] = tensor_from(info, self._checkpoint.read(name)).float()
        return self._tensors[name]


def _left(losses: NDArray[np.float64]) -> tuple[list[int], NDArray[np.float64]]:
    """Trials, best first, that are not worse than the best by SURE standard errors, and their mean losses."""
    means = losses.mean(axis=1)
    order = np.argsort(means, kind="stable")
    best = losses[order[0]]
    kept = []
    for at in order.tolist():
        more = losses[at] - best
        error = more.std(ddof=1) / np.sqrt(len(more))
        if not more.mean() > SURE * error:
            kept.append(at)
    return kept, means[kept]


def _frequencies(tokens: torch.Tensor) -> float:
    """Nats a token when each is predicted by how often it occurs in these very sequences."""
    counts = torch.bincount(tokens.flatten()).double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())
