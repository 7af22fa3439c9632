"""The recipe's own sections: [run], [model], [ablate], [plan]; those of the stages stand in their rooms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from zhen.model.config import RopeScaling

Seed = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


def file_name(name: str) -> bool:
    """Whether `name` can be a folder's name."""
    return bool(name) and name not in {".", ".."} and set(name).isdisjoint("/\\\0")


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[run]`: what the run is called and where its randomness starts."""

    name: str
    """The run's folder is `runs/<name>` unless `--out` says otherwise. Changes no key."""
    seed: Seed = 1
    """Every stage's random choices are functions of it."""
    tracker: Literal["trackio", "wandb"] | None = None
    """Where the numbers of training go besides the run's folder. Changes no key."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        if not file_name(self.name):
            yield "name", f'"{self.name}"', "a folder's name"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[model]`: a preset, fields of `config.json` over it, or a checkpoint to go on from."""

    preset: str | None = None
    """One of the named configurations of `zhen.model.config.PRESETS`."""
    init: str | None = None
    """Folder of a LLaMA-shaped checkpoint to go on from; its configuration and tokenizer are taken."""
    hidden_size: int | None = None
    """Width of the residual stream."""
    intermediate_size: int | None = None
    """Width of the feed-forward layer."""
    num_hidden_layers: int | None = None
    """Decoder layers."""
    num_attention_heads: int | None = None
    """Query heads."""
    num_key_value_heads: int | None = None
    """Key-value heads; equal to the query heads for MHA, 1 for MQA."""
    head_dim: int | None = None
    """Size of a head."""
    vocab_size: int | None = None
    """Rows of the embedding; the tokenizer's size when left out."""
    max_position_embeddings: int | None = None
    """Longest context, in tokens."""
    rms_norm_eps: float | None = None
    """Added to the mean square in RMSNorm."""
    rope_theta: float | None = None
    """Base of the rotary embedding."""
    rope_scaling: RopeScaling | None = None
    """Scaling of the rotary embedding, as in `config.json`."""
    tie_word_embeddings: bool | None = None
    """Whether the head is the embedding."""
    initializer_range: float | None = None
    """Standard deviation of the initial weights."""
    norm_place: str | None = None
    """`pre`, or `post` for ablations (never released)."""


class AblatePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[ablate.points]]`: one of the runs that are compared."""

    name: str
    """What it is called, in tables and as a folder."""
    set: dict[str, Any] = {}
    """Dotted keys of the recipe, and the values that they have here."""


class MixtureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ablate.mixture]`: a search for the shares of the sources, by small runs spread over all mixtures."""

    proxies: Annotated[int, msgspec.Meta(ge=4)] = 12
    """Mixtures that are tried, one run each."""
    least: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.05
    """The smallest share of a source: loss rises without bound towards 0, and no fit follows it there."""


class AblateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ablate]`: the runs of `zhen ablate`. One of `points`, `grid`, `mixture` says which."""

    seeds: tuple[Seed, ...] = (1, 2, 3)
    """Each point is trained once with each; data and tokenizer are those of [run] seed at all points."""
    points: tuple[AblatePoint, ...] = ()
    """A list of runs. The first is the one that the others are compared with."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys with the values that they take; every combination is a point."""
    mixture: MixtureSettings | None = None
    """Search for the shares of the sources."""
    scaling: bool = False
    """Fit a scaling law to the points, and predict the one of most FLOPs, which the fit does not see."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        given = [name for name in ("points", "grid", "mixture") if getattr(self, name)]
        if len(given) != 1:
            yield "points", f"{' and '.join(given) or 'none of them'} given", "one of points, grid, mixture"
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            yield "seeds", f"{list(self.seeds)}", "at least one seed, each once"
        names = [point.name for point in self.points]
        for index, name in enumerate(names):
            if not file_name(name) or name in names[:index]:
                yield f"points.{index}.name", f'"{name}"', "a folder's name that no other point has"
        for key, values in self.grid.items():
            if not values or any(value in values[:index] for index, value in enumerate(values)):
                yield f"grid.{key}", f"{values}", "at least one value, each once"
        changed = [(f"points.{index}.set", key) for index, point in enumerate(self.points) for key in point.set]
        for field, key in [*changed, *((f"grid.{key}", key) for key in self.grid)]:
            if key == "pretrain.seed":
                yield field, key, "[ablate] seeds, which are those of all points"
            elif key.partition(".")[0] in ("ablate", "run"):
                yield field, key, "a key of another section: [ablate] and [run] are those of all points"
        if self.scaling and self.mixture is not None:
            yield "scaling", "true beside [ablate.mixture]", "points of several sizes, or a search of mixtures"


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[plan]`: on what `zhen plan` takes the run to be made; its options go before. Changes no key."""

    gpus: Count = 1
    """Devices."""
    device: str = "H100"
    """One of `zhen.plan.devices`, or `here`."""
    precision: Literal["bfloat16", "float8"] | None = None
    """Of the layers' products. None: what the recipe trains in, or where it leaves that open bfloat16, `here` what is
    fast."""
    price: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    """US$ a device and hour; the device's own when left out."""
