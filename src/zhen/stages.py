"""Every stage of a run: what it may read, and where its code is."""

from __future__ import annotations

from zhen.formats.stage import Stage

STAGES = (
    Stage("sampleweb", 8, ("sampleweb", "run.seed"), (), "zhen.sampleweb.stage:make"),
    Stage(
        "data.scan",
        9,
        ("data.sources", "data.extract", "data.contamination.against", "data.contamination.columns"),
        ("sampleweb/crawl", "sampleweb/strings", "sampleweb/tasks"),
        "zhen.data.stage:scan",
        "zhen.data.stage:scan_inputs",
    ),
    Stage(
        "data.decide",
        7,
        ("data.rules", "data.duplicates", "data.contamination"),
        ("data.scan",),
        "zhen.data.stage:decide",
    ),
    Stage(
        "data.write",
        3,
        ("data.privacy", "data.held_out", "data.held_out_bytes", "run.seed"),
        ("data.scan", "data.decide"),
        "zhen.data.stage:write",
    ),
    Stage(
        "tokenizer",
        1,
        ("tokenizer", "model.init", "run.seed"),
        ("data.write/kept",),
        "zhen.tokenizer.stage:learn",
        "zhen.tokenizer.stage:learn_inputs",
    ),
    Stage("shards", 1, ("shards",), ("data.write", "tokenizer"), "zhen.shards.stage:tokenize"),
    Stage(
        "pretrain",
        5,
        ("pretrain", "model", "model.init", "run.seed"),
        ("shards", "tokenizer"),
        "zhen.train.stage:pretrain",
        "zhen.train.stage:pretrain_inputs",
        ranks=True,
    ),
    Stage(
        "extend",
        3,
        ("extend", "model.init", "run.seed"),
        ("shards", "tokenizer", "pretrain"),
        "zhen.train.extend:extend",
        "zhen.train.stage:pretrain_inputs",
        ranks=True,
    ),
    Stage(
        "tune",
        6,
        ("tune", "pretrain.mixtures", "model.init", "run.seed"),
        ("sampleweb/dialogues", "tokenizer", "shards", "pretrain", "extend"),
        "zhen.tune.stage:tune",
        "zhen.tune.stage:tune_inputs",
    ),
    Stage(
        "quantize",
        2,
        ("quantize",),
        ("data.write/kept", "tokenizer", "pretrain", "extend", "tune"),
        "zhen.quantize.stage:quantize",
    ),
    Stage(
        "evaluate",
        8,
        ("evaluate", "run.seed"),
        ("sampleweb/tasks", "pretrain", "extend", "tune", "quantize", "shards", "tokenizer"),
        "zhen.evaluate.stage:evaluate",
        "zhen.evaluate.stage:evaluate_inputs",
    ),
    Stage(
        "release",
        1,
        ("release", "run.name"),
        (
            "sampleweb",
            "data.scan",
            "data.decide",
            "data.write",
            "tokenizer",
            "shards",
            "pretrain",
            "extend",
            "tune",
            "quantize",
            "evaluate",
        ),
        "zhen.release.stage:release",
    ),
)
"""Every stage in the order of work."""
