"""The benchmarks.

Prompts are those of lm-evaluation-harness wherever it has the task: its YAML is read from the installed package and
only the source of the data replaced. The others (GAOKAO-Bench, SQuAD, MATH, programs in a sandbox) are given here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from zhen.errors import ZhenError, nearest
from zhen.evaluate.harness import readers, scorers
from zhen.evaluate.harness.files import Doc, many, single, subjects
from zhen.evaluate.harness.task import EN, ZH, Config, Task
from zhen.evaluate.settings import LONG_CONTEXT

MEAN = {"aggregation": "mean", "higher_is_better": True}
MULTIPLE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{query}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
}


def _fixed(choices: int) -> Callable[[Doc], float]:
    return lambda doc: 1 / choices


def _texts(doc: Doc) -> float:
    return 1 / len(doc["choices"]["text"])


def _listed(doc: Doc) -> float:
    return 1 / len(doc["choices"])


@cache
def constant(path: str, function: str) -> list[Doc]:
    """The examples that a module of the harness returns, read from its source: importing it would ask the network."""
    import lm_eval.tasks

    source = (Path(lm_eval.tasks.__file__).parent / path).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for statement in node.body:
                if isinstance(statement, ast.Return) and statement.value is not None:
                    found: list[Doc] = ast.literal_eval(statement.value)
                    return found
    raise ZhenError(f"{path} of lm-evaluation-harness has no examples", expected="lm-eval 0.4.13 or later, below 0.5")


def _samples(path: str) -> Config:
    return {"sampler": "first_n", "samples": partial(constant, path, "list_fewshot_samples")}


GAOKAO = MULTIPLE | {"target_delimiter": "", "metric_list": [{"metric": "acc", **MEAN}]}

SQUAD = {
    "output_type": "generate_until",
    "doc_to_text": "Title: {{title}}\nBackground: {{context}}\nQuestion: {{question}}\nAnswer:",
    "doc_to_target": "{{answers[0]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 50, "do_sample": False},
    "process_results": scorers.squad,
    "metric_list": [{"metric": "f1", **MEAN}, {"metric": "exact", **MEAN}],
}

MATH = {
    "output_type": "generate_until",
    "doc_to_text": "Problem:\n{{problem}}\n\nSolution:",
    "doc_to_target": "{{solution}}",
    "generation_kwargs": {"until": ["Problem:"], "max_gen_toks": 512, "do_sample": False},
    "process_results": scorers.mathematics,
    "metric_list": [{"metric": "math_verify", **MEAN}, {"metric": "exact", **MEAN}],
    "fewshot_config": _samples("minerva_math/utils.py"),
}

HUMANEVAL = {
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{test}}\ncheck({{entry_point}})",
    "generation_kwargs": {
        "until": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"],
        "max_gen_toks": 512,
        "do_sample": False,
    },
    "process_results": scorers.humaneval,
    "metric_list": [{"metric": "pass@1", **MEAN}],
}

MBPP = {
    "output_type": "generate_until",
    "doc_to_text": "You are an expert Python programmer, and here is your task: {{text}} Your code should pass these "
    "tests:\n\n{{test_list[0]}}\n{{test_list[1]}}\n{{test_list[2]}}\n[BEGIN]\n",
    "doc_to_target": "{{code}}\n[DONE]",
    "target_delimiter": "",
    "generation_kwargs": {"until": ["[DONE]"], "max_gen_toks": 512, "do_sample": False},
    "process_results": scorers.mbpp,
    "metric_list": [{"metric": "pass@1", **MEAN}],
    "fewshot_config": _samples("mbpp/utils.py"),
}

_letters = subjects
_labelled = single(readers.labelled)

TASKS = {
    task.name: task
    for task in (
        Task(
            "mmlu",
            EN,
            "mmlu",
            "test/<subject>_test.csv and dev/<subject>_dev.csv",
            _letters(readers.mmlu, "test", "dev"),
            "acc",
            "mmlu/default/mmlu_{part}.yaml",
            shots=5,
            chance=_fixed(4),
        ),
        Task(
            "cmmlu",
            ZH,
            "cmmlu",
            "test/<subject>.csv and dev/<subject>.csv",
            _letters(readers.cmmlu, "test", "dev"),
            "acc",
            "cmmlu/cmmlu_{part}.yaml",
            shots=5,
            chance=_fixed(4),
        ),
        Task(
            "ceval",
            ZH,
            "ceval",
            "val/<subject>_val.csv and dev/<subject>_dev.csv (ceval-exam.zip, unpacked)",
            _letters(readers.ceval, "val", "dev"),
            "acc",
            "ceval/ceval-valid_{part}.yaml",
            shots=5,
            chance=_fixed(4),
        ),
        Task(
            "arc_challenge",
            EN,
            "arc-challenge",
            "test.jsonl or validation.jsonl",
            _labelled,
            "acc_norm",
            "arc/arc_challenge.yaml",
            shots=25,
            chance=_texts,
        ),
        Task(
            "arc_easy",
            EN,
            "arc-easy",
            "test.jsonl or validation.jsonl",
            _labelled,
            "acc_norm",
            "arc/arc_easy.yaml",
            chance=_texts,
        ),
        Task(
            "hellaswag",
            EN,
            "hellaswag",
            "validation.jsonl",
            single(readers.hellaswag, "validation", "hellaswag_val"),
            "acc_norm",
            "hellaswag/hellaswag.yaml",
            {"process_docs": None},
            shots=10,
            chance=_listed,
        ),
        Task(
            "gsm8k",
            EN,
            "gsm8k",
            "test.jsonl and train.jsonl",
            single(readers.fields("question", "answer")),
            "exact_match",
            "gsm8k/gsm8k.yaml",
            shots=5,
            filter="strict-match",
        ),
        Task(
            "gaokao",
            ZH,
            "gaokao-bench",
            "the objective questions, <subject>.json",
            many(readers.gaokao, "*.json"),
            "acc",
            own=GAOKAO,
            cluster=lambda doc: str(doc["text"]),
            chance=_listed,
        ),
        Task(
            "winogrande",
            EN,
            "winogrande",
            "validation.jsonl",
            single(readers.fields("sentence", "option1", "option2", "answer")),
            "acc",
            "winogrande/default.yaml",
            shots=5,
            chance=_fixed(2),
        ),
        Task(
            "truthfulqa",
            EN,
            "truthfulqa",
            "mc_task.json",
            single(readers.truthfulqa, "mc_task", "validation"),
            "acc",
            "truthfulqa/truthfulqa_mc2.yaml",
        ),
        Task(
            "truthfulqa_mc1",
            EN,
            "truthfulqa",
            "mc_task.json",
            single(readers.truthfulqa, "mc_task", "validation"),
            "acc",
            "truthfulqa/truthfulqa_mc1.yaml",
            chance=lambda doc: 1 / len(doc["mc1_targets"]["choices"]),
        ),
        Task(
            "piqa",
            EN,
            "piqa",
            "validation.jsonl",
            single(readers.fields("goal", "sol1", "sol2", "label")),
            "acc",
            "piqa/piqa.yaml",
            chance=_fixed(2),
        ),
        Task(
            "siqa",
            EN,
            "socialiqa",
            "validation.jsonl",
            single(readers.fields("context", "question", "answerA", "answerB", "answerC", "label")),
            "acc",
            "siqa/siqa.yaml",
            chance=_fixed(3),
            cluster=lambda doc: str(doc["context"]),
        ),
        Task(
            "openbookqa",
            EN,
            "openbookqa",
            "test.jsonl or validation.jsonl",
            _labelled,
            "acc_norm",
            "openbookqa/openbookqa.yaml",
            chance=_texts,
        ),
        Task(
            "commonsenseqa",
            EN,
            "commonsenseqa",
            "validation.jsonl",
            _labelled,
            "acc",
            "commonsense_qa/default.yaml",
            shots=7,
            chance=_fixed(5),
        ),
        Task(
            "boolq",
            EN,
            "boolq",
            "validation.jsonl",
            single(readers.boolq),
            "acc",
            "super_glue/boolq/default.yaml",
            chance=_fixed(2),
            cluster=lambda doc: str(doc["passage"]),
        ),
        Task(
            "squad",
            EN,
            "squad",
            "validation.jsonl",
            single(readers.squad, "validation", "dev", "subset"),
            "f1",
            own=SQUAD,
            cluster=lambda doc: str(doc["context"]),
        ),
        Task(
            "lambada",
            EN,
            "lambada",
            "test.jsonl",
            single(readers.lambada),
            "acc",
            "lambada/lambada_openai.yaml",
            {"metric_list": [{"metric": "acc", **MEAN}]},
        ),
        Task(
            "bbh",
            EN,
            "bbh",
            "<task>.json",
            many(readers.fields("input", "target"), "*.json"),
            "exact_match",
            "bbh/cot_fewshot/{part}.yaml",
            shots=3,
            filter="get-answer",
        ),
        Task(
            "bbh_direct",
            EN,
            "bbh",
            "<task>.json",
            many(readers.fields("input", "target"), "*.json"),
            "exact_match",
            "bbh/fewshot/{part}.yaml",
            shots=3,
        ),
        Task(
            "agieval",
            EN,
            "agieval",
            "<task>.jsonl",
            many(readers.agieval, "[!g]*.jsonl"),
            "acc",
            "agieval/aqua-rat.yaml",
            chance=_listed,
            cluster=lambda doc: str(doc["passage"] or doc["query"]),
        ),
        Task(
            "agieval_gaokao",
            ZH,
            "agieval",
            "gaokao-<subject>.jsonl",
            many(readers.agieval, "gaokao-*.jsonl"),
            "acc",
            "agieval/aqua-rat.yaml",
            chance=_listed,
            cluster=lambda doc: str(doc["passage"] or doc["query"]),
        ),
        Task(
            "math",
            EN,
            "math",
            "test.jsonl",
            single(readers.fields("problem", "solution"), "test", "math"),
            "math_verify",
            own=MATH,
            shots=4,
        ),
        Task(
            "humaneval",
            EN,
            "humaneval",
            "HumanEval.jsonl.gz",
            single(readers.fields("task_id", "prompt", "entry_point", "test"), "HumanEval"),
            "pass@1",
            own=HUMANEVAL,
        ),
        Task(
            "mbpp",
            EN,
            "mbpp",
            "test.jsonl",
            single(readers.fields("task_id", "text", "code", "test_list", "test_setup_code")),
            "pass@1",
            own=MBPP,
            shots=3,
        ),
    )
}


def task_named(name: str) -> Task:
    """A benchmark by its name. Raises ZhenError for one that is not known."""
    if name not in TASKS:
        known = (*TASKS, *LONG_CONTEXT)
        match = nearest(name, known)
        raise ZhenError(
            f'no task "{name}"',
            expected="one of " + ", ".join(known) + ", or the .yaml of one of your own",
            hint=f'did you mean "{match}"?' if match else None,
        )
    return TASKS[name]
