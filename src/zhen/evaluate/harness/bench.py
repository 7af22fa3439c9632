"""A benchmark put to a model: lm-evaluation-harness builds prompts and scores, the model answers, items come out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from zhen.evaluate.harness.files import Doc, Part
from zhen.evaluate.harness.model import Seen
from zhen.evaluate.harness.task import Config, Task, spread, stem
from zhen.evaluate.items import Item, digest, item_name, metric_name
from zhen.evaluate.questions import Question

SHOT_SEED = 1234
"""The harness's own seed for the choice of examples."""

DECIMALS = 6

PROMPT_FIELDS = ("description", "doc_to_text", "doc_to_choice", "gen_prefix", "target_delimiter", "fewshot_delimiter")
TARGET_FIELDS = ("doc_to_target", "metric_list", "filter_list", "process_results", "generation_kwargs")

YAML = Path(lm_eval.tasks.__file__).parent


class Bench:
    """A task ready to be put to models: its parts, each as a task of the harness."""

    def __init__(
        self,
        task: Task,
        parts: Sequence[Part],
        *,
        shots: int | None = None,
        shot_seed: int = SHOT_SEED,
        limit: int | None = None,
    ) -> None:
        """`shots`: instead of the task's own number; `limit`: items in all, spread evenly over the parts."""
        # warnings about settings that are meant so
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        self.task = task
        self.shots = task.shots if shots is None else shots
        self._shot_seed = shot_seed
        counts = spread(parts, limit)
        self.parts = {_name(task, part): part for part, count in zip(parts, counts, strict=True) if count}
        self.counts = {_name(task, part): count for part, count in zip(parts, counts, strict=True) if count}
        self.tasks = {name: _task(task, name, part, self.shots) for name, part in self.parts.items()}
        self.chosen: dict[str, list[list[str]]] = {name: [] for name in self.parts}
        for name, each in self.tasks.items():
            _record_shots(each, self.chosen[name])

    @property
    def total(self) -> int:
        """Items that are asked."""
        return sum(self.counts.values())

    def inputs(self, data: Path) -> dict[str, Path]:
        """The files that its items come from, by their names below the folder `data`."""
        paths = sorted({path for part in self.parts.values() for path in part.files})
        return {str(path.relative_to(data)): path for path in paths}

    def how(self) -> dict[str, Any]:
        """The settings that decide what is asked and how it is scored, as text by field."""
        first = next(iter(self.tasks.values())).config.to_dict()
        fields = {name: first.get(name) for name in (*PROMPT_FIELDS, *TARGET_FIELDS)}
        shots = first.get("fewshot_config") or {}
        return {
            "shots": self.shots,
            "sampler": str(shots.get("sampler", "default")),
            "version": str(next(iter(self.tasks.values())).VERSION),
            "score": metric_name(self.task.score, self.task.filter, self._filters()),
            "settings": {name: _text(value) for name, value in fields.items() if value is not None},
        }

    def questions(self) -> list[Question]:
        """What its items ask, without choices, each under its item's name."""
        return [
            Question(prompt=stem(doc), id=item_name(self.task.name, part.name, number))
            for name, part in self.parts.items()
            for number, doc in enumerate(part.test[: self.counts[name]])
        ]

    def put_to(self, model: LM, template: bool = False) -> list[Item]:
        """The items of all parts, in their order. `template`: prompts as turns in the model's chat template."""
        for name, each in self.tasks.items():
            # every model is given the same examples
            each.set_fewshot_seed(self._shot_seed)
            self.chosen[name].clear()
        found = evaluator.evaluate(
            model,
            dict(self.tasks),
            samples={name: list(range(count)) for name, count in self.counts.items()},
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=template,
        )
        seen: Mapping[tuple[str, str], Seen] = getattr(model, "seen", {})
        return [item for name in self.parts for item in self._items(name, found["samples"][name], seen)]

    def _filters(self) -> int:
        return len(next(iter(self.tasks.values()))._filters)

    def _items(
        self, name: str, samples: Sequence[Mapping[str, Any]], seen: Mapping[tuple[str, str], Seen]
    ) -> Iterator[Item]:
        by_doc: dict[int, list[Mapping[str, Any]]] = {}
        for sample in samples:
            by_doc.setdefault(sample["doc_id"], []).append(sample)
        for at, place in enumerate(sorted(by_doc)):
            yield self._item(name, by_doc[place], self.chosen[name][at] if self.chosen[name] else [], seen)

    def _item(
        self, name: str, samples: Sequence[Mapping[str, Any]], shots: list[str], seen: Mapping[tuple[str, str], Seen]
    ) -> Item:
        first, part = samples[0], self.parts[name]
        written = self.tasks[name].OUTPUT_TYPE == "generate_until"
        arguments = [(argument[0], "" if written else argument[1]) for argument in first["arguments"]]
        answers = [response[0] for response in first["resps"]]
        fed = [seen[argument] for argument in arguments if argument in seen]
        prompts = list(dict.fromkeys(context for context, _ in arguments))
        doc: Doc = part.test[first["doc_id"]]
        cluster, chance = self.task.cluster, self.task.chance
        return Item(
            task=self.task.name,
            part=part.name,
            id=first["doc_id"],
            cluster=digest(cluster(doc)) if cluster else str(first["doc_id"]),
            doc_hash=first["doc_hash"],
            prompt_hash=first["prompt_hash"],
            target_hash=first["target_hash"],
            shots=shots,
            prompts=prompts if len(prompts) == 1 else [context for context, _ in arguments],
            choices=[] if written else [choice for _, choice in arguments],
            logprobs=[] if written else [round(float(answer[0]), DECIMALS) for answer in answers],
            greedy=[] if written else [bool(answer[1]) for answer in answers],
            output=answers[0] if written else "",
            extracted={sample["filter"]: _extracted(sample) for sample in samples} if written else {},
            target=str(first["target"]),
            scores={
                metric_name(metric, sample["filter"], len(samples)): float(sample[metric])
                for sample in samples
                for metric in sample["metrics"]
            },
            chance=chance(doc) if chance else None,
            context_tokens=max((each.context_tokens for each in fed), default=0),
            truncated=any(each.truncated for each in fed),
        )


def _name(task: Task, part: Part) -> str:
    return f"{task.name}_{part.name}" if part.name else task.name


def _task(task: Task, name: str, part: Part, shots: int) -> ConfigurableTask:
    """A task of the harness over items that are there already."""
    splits = {"test": part.test, "shots": part.shots or part.test}
    config: Config = load_yaml(YAML / task.yaml.format(part=part.name)) if task.yaml else {}
    for field in ("group", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "validation_split"):
        config.pop(field, None)
    config |= dict(task.own)
    examples = config.get("fewshot_config") or {}
    own_shots = "samples" in examples
    config |= {
        "task": name,
        "custom_dataset": lambda **_: {key: datasets.Dataset.from_list(rows) for key, rows in splits.items()},
        "training_split": None,
        "test_split": "test",
        "fewshot_split": None if own_shots else ("shots" if part.shots else "test"),
        "num_fewshot": shots,
        "fewshot_config": {key: value for key, value in examples.items() if key != "split"} or None,
    }
    made = ConfigurableTask(config=config)
    made.config.custom_dataset = None
    return made


def _record_shots(task: ConfigurableTask, chosen: list[list[str]]) -> None:
    """Write down which examples each item is given."""
    sampler = getattr(task, "sampler", None)
    if sampler is None:
        return
    sample = sampler.sample

    def recorded(*arguments: Any, **named: Any) -> Any:
        docs = list(sample(*arguments, **named))
        chosen.append([digest(json.dumps(doc, ensure_ascii=False, sort_keys=True, default=str)) for doc in docs])
        return docs

    sampler.sample = recorded


def _extracted(sample: Mapping[str, Any]) -> str:
    value = sample["filtered_resps"][0]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
