"""A plan in sections, for the terminal and the page alike, in both languages."""

from __future__ import annotations

from collections.abc import Iterator

from zhen.console import amount, duration, size
from zhen.pages.parts import Bars, Facts, Part, Section, Table, Text, Verdict, Words, join
from zhen.plan.layouts import Layout
from zhen.plan.plan import Choice, Plan
from zhen.plan.running import RESTART_SECONDS

PARTS = {
    "weights": "权重",
    "optimizer": "优化器",
    "gathered weights": "收集来的权重",
    "bfloat16 copies": "bfloat16 副本",
    "activations": "激活值",
    "logits": "logits",
    "gradients": "梯度",
    "products": "矩阵乘法",
    "attention": "注意力",
    "between them": "其间的运算",
    "communication of shards": "分片通信",
    "communication of copies": "副本通信",
    "communication of tensor": "张量并行通信",
    "communication of context": "上下文并行通信",
    "weights and gradients": "权重与梯度",
    "gradients of copies": "副本的梯度",
    "tensor": "张量并行",
    "context": "上下文并行",
    "the loss": "计算损失时",
    "the first layer's backward": "第一次层的反向计算时",
    "the end": "反向计算结束时",
    "the update": "更新参数时",
    "none": "无",
    "selective": "选择性",
    "full": "全部",
    "one device": "单卡",
    "reading": "读取",
    "the gate": "预筛",
    "extraction": "正文提取",
    "rules and signals": "规则与信号",
    "benchmarks' questions": "评测题查重",
    "duplicates": "去重",
    "tokens": "分词",
    "raw": "原始网页",
    "documents": "文档",
    "signals": "信号",
    "kept": "保留的文档",
    "shards": "词元分片",
}
"""English name of a part -> Chinese."""


def word(name: str) -> str:
    """The name of a part in both languages."""
    return Words(name, PARTS[name]) if name in PARTS else name


def lead(plan: Plan) -> list[Part]:
    """The answer in one sentence."""
    one = plan.chosen
    what = f"{plan.gpus:,} × {plan.device.name}"
    if one is None or plan.run is None:
        return [Verdict(False, Words(f"No layout fits on {what}", f"{what} 放不下任何布局"))]
    run = plan.run
    days, cost = _days(run.days), _money(run.cost)
    return [
        Verdict(
            True,
            Words(
                f"{what}: {days[0]} and US$ {cost} with {one.name}, {one.bytes / plan.device.memory:.0%} of the memory",
                f"{what}：{one.name}，{days[1]}，{cost} 美元，占显存 {one.bytes / plan.device.memory:.0%}",
            ),
        )
    ]


def sections(plan: Plan) -> list[Section]:
    """All of a plan."""
    made = [
        Section(Words("Model and run", "模型与训练"), [_numbers(plan)]),
        Section(Words("Layouts", "布局"), list(_layouts(plan))),
    ]
    if plan.chosen is not None:
        made += [
            Section(Words("Memory of a device", "每卡显存"), list(_memory(plan, plan.chosen))),
            Section(Words("A step", "一步"), list(_step(plan.chosen))),
        ]
    return [
        *made,
        Section(Words("Data", "数据"), list(_data(plan))),
        Section(Words("Serving", "推理"), list(_serving(plan))),
        Section(Words("Device", "设备"), [_device(plan)]),
    ]


def _numbers(plan: Plan) -> Facts:
    model, training = plan.model, plan.training
    rows: list[tuple[str, str]] = [
        (Words("parameters", "参数"), amount(model["parameters"])),
        (
            Words("FLOPs a token", "每词元运算"),
            Words(
                f"{model['flops_per_token']:.4g} (causal attention), "
                f"{model['flops_per_token_full_attention']:.4g} (the whole square)",
                f"{model['flops_per_token']:.4g}（因果注意力），{model['flops_per_token_full_attention']:.4g}（整个方阵）",
            ),
        ),
        (
            Words("training", "训练"),
            Words(
                f"{amount(training.tokens)} tokens, {training.steps:,} steps of {amount(training.tokens_per_step)}, "
                f"sequences of {training.sequence_length:,}",
                f"{amount(training.tokens)} 词元，{training.steps:,} 步，每步 {amount(training.tokens_per_step)}，"
                f"序列长 {training.sequence_length:,}",
            ),
        ),
    ]
    run, saved = plan.run, plan.checkpoints
    if run is not None and saved is not None:
        days = _days(run.days)
        rows += [
            (
                Words("all of it", "总计"),
                Words(
                    f"{run.flops:.3g} FLOP, {days[0]}, {amount(round(run.device_hours))} device-hours",
                    f"{run.flops:.3g} 次运算，{days[1]}，{amount(round(run.device_hours))} 卡时",
                ),
            ),
            (
                Words("cost, energy", "费用，能耗"),
                Words(
                    f"US$ {_money(run.cost)} at {plan.device.price:.2f} an hour, {run.megawatt_hours:,.3g} MWh at most",
                    f"{_money(run.cost)} 美元（每卡时 {plan.device.price:.2f}），最多 {run.megawatt_hours:,.3g} MWh",
                ),
            ),
            (
                Words("checkpoints", "检查点"),
                Words(
                    f"{size(saved.bytes)} in {duration(saved.seconds)}; best every {saved.interval_steps:,} steps "
                    f"({duration(saved.interval_seconds)})",
                    f"{size(saved.bytes)}，写入 {duration(saved.seconds)}；最佳间隔 {saved.interval_steps:,} 步"
                    f"（{duration(saved.interval_seconds)}）",
                ),
            ),
            (
                Words("failures", "故障"),
                Words(
                    f"one in {duration(3600 * saved.hours_between_failures)}, {duration(RESTART_SECONDS)} to restart: "
                    f"{saved.goodput:.1%} of the time makes progress",
                    f"平均每 {duration(3600 * saved.hours_between_failures)} 一次，重启 {duration(RESTART_SECONDS)}："
                    f"有效时间 {saved.goodput:.1%}",
                ),
            ),
        ]
    return Facts(rows)


def _layouts(plan: Plan) -> Iterator[Part]:
    yield Text(
        Words(
            f"{plan.looked_at:,} were compared; of each kind the fastest that fits, else the smallest. "
            f"{size(plan.usable_bytes)} of {size(plan.device.memory)} can be used.",
            f"比较了 {plan.looked_at:,} 种；每类列出放得下的最快一种，放不下则列最小的。"
            f"{size(plan.device.memory)} 中可用 {size(plan.usable_bytes)}。",
        )
    )
    columns = [
        Words("layout", "布局"),
        Words("at once", "同时序列"),
        Words("recomputed", "重算"),
        Words("memory", "显存"),
        Words("fits", "放得下"),
        Words("s a step", "每步秒数"),
        Words("tokens/s a device", "每卡词元/秒"),
        "MFU",
    ]
    rows = []
    for one in plan.choices:
        layout = one.layout
        yes = Words("yes", "是")
        limit = one.limit or ""
        rows.append(
            (
                word(one.name),
                str(layout.micro_batch),
                _recomputed(layout),
                size(one.bytes),
                yes if one.fits else Words(f"no: {limit}", f"否：{PARTS[limit]}"),
                *(
                    (f"{one.seconds:.3g}", amount(round(one.tokens_per_second)), f"{100 * one.mfu:.1f} %")
                    if one.fits
                    else ("–", "–", "–")
                ),
            )
        )
    yield Table(columns, rows)
    training = plan.training
    given = training.stage, training.recompute, training.loss_chunk
    asked = plan.chosen.layout.asked_for(*given) if plan.chosen is not None else []
    if asked:
        least = -(-plan.gpus // plan.device.per_node)
        nodes = next(count for count in range(least, plan.gpus + 1) if plan.gpus % count == 0)  # torchrun: alike
        many = f"--nnodes {nodes} … " if nodes > 1 else ""
        program = f"torchrun {many}--nproc-per-node {plan.gpus // nodes} -m zhen run RECIPE {plan.training.stage}"
        command = " ".join([program, *(f"--set '{each}'" for each in asked)])
        yield Text(Words(f"The fastest that fits: {command}", f"放得下的最快一种：{command}"))


def _recomputed(layout: Layout) -> str:
    name = word(layout.recompute)
    return name if layout.loss_chunk is None else join(Words(", ", "，"), [name, Words("loss in pieces", "损失分块")])


def _memory(plan: Plan, one: Choice) -> Iterator[Part]:
    yield Text(
        Words(f"{one.name}; most is alive at {one.memory.at}.", f"{one.name}；峰值出现在{PARTS[one.memory.at]}。")
    )
    parts = sorted(one.memory.parts.items(), key=lambda part: -part[1])
    yield Bars([(word(name), count / plan.usable_bytes, size(count)) for name, count in parts if count])


def _step(one: Choice) -> Iterator[Part]:
    made = one.step
    yield Text(
        Words(
            f"{made.seconds:.3g} s; micro-batches: {made.micro_batches:,}; MFU {one.mfu:.1%}, or "
            f"{one.mfu_full_attention:.1%} with the whole square of attention. {made.hidden:.2g} s of communication "
            "more pass beside computation.",
            f"{made.seconds:.3g} 秒，{made.micro_batches:,} 个微批；MFU {one.mfu:.1%}，按整个注意力方阵计 "
            f"{one.mfu_full_attention:.1%}。另有 {made.hidden:.2g} 秒的通信与计算重叠。",
        )
    )
    if one.layout.context > 2:
        yield Text(
            Words(
                "Context parallelism beyond two: published runs took up to 1.6 times what is predicted here.",
                "上下文并行超过 2 路时，已发表的训练耗时最多为此处预测的 1.6 倍。",
            )
        )
    parts = sorted(made.parts.items(), key=lambda part: -part[1])
    yield Bars([(word(name), seconds / made.seconds, f"{seconds:.3g} s") for name, seconds in parts])
    if made.volumes:
        columns = [Words("sent by a device in a step", "每卡每步发送"), Words("bytes", "字节")]
        yield Table(columns, [(word(name), size(count)) for name, count in made.volumes.items()])


def _data(plan: Plan) -> Iterator[Part]:
    yield Text(
        Words(
            "Raw pages to shards, from rates measured on one core; half of the pages taken to be in a wanted language, "
            "15 % of those kept.",
            "从原始网页到词元分片，按单核实测速率；假定半数网页属所需语言，其中保留 15 %。",
        )
    )
    columns = [Words("of", "项目"), *(_raw(work.raw_bytes) for work in plan.data)]
    rows: list[list[str]] = [
        [Words("pages", "网页"), *(amount(round(work.pages)) for work in plan.data)],
        [Words("core-hours", "核时"), *(amount(round(work.hours_of_cores)) for work in plan.data)],
        *(
            [
                Words(f"core-hours: {name}", f"核时：{PARTS[name]}"),
                *(amount(round(work.core_hours[name])) for work in plan.data),
            ]
            for name in plan.data[0].core_hours
        ),
        [Words("days on 1,000 cores", "千核天数"), *(f"{work.hours_of_cores / 24000:.2g}" for work in plan.data)],
        *(
            [
                Words(f"storage: {name}", f"存储：{PARTS[name]}"),
                *(size(work.storage_bytes[name]) for work in plan.data),
            ]
            for name in plan.data[0].storage_bytes
        ),
        [Words("between machines", "机器间交换"), *(size(work.shuffle_bytes) for work in plan.data)],
        [Words("tokens", "词元"), *(amount(round(work.tokens)) for work in plan.data)],
    ]
    yield Table(columns, rows)


def _raw(count: float) -> str:
    return f"{count / 1e15:g} PB" if count >= 1e15 else size(count)


def _serving(plan: Plan) -> Iterator[Part]:
    yield Text(
        Words(
            f"On {plan.device.name}; below 16 bits embedding and head have 8. Tokens a second of all sequences "
            "together, at most (memory's bandwidth); seconds to the first token of a full context, at least (peak).",
            f"{plan.device.name}；低于 16 位时嵌入与输出层用 8 位。每秒词元为各序列合计的上限（显存带宽），"
            "首词元秒数为满上下文的下限（峰值算力）。",
        )
    )
    columns = [
        Words("context", "上下文"),
        Words("bits", "位数"),
        Words("cache bits", "缓存位数"),
        Words("sequences", "序列数"),
        Words("devices", "卡数"),
        Words("weights", "权重"),
        Words("cache", "缓存"),
        Words("tokens/s", "词元/秒"),
        Words("s to the first", "首词元秒数"),
    ]
    rows = [
        (
            f"{one.context:,}",
            str(one.bits),
            str(one.cache_bits),
            str(one.batch),
            str(one.devices),
            size(one.weights_bytes),
            size(one.cache_bytes),
            amount(round(one.tokens_per_second)),
            f"{one.prefill_seconds:.2g}",
        )
        for one in sorted(plan.serving, key=lambda one: (one.context, -one.bits, -one.cache_bits, one.batch))
    ]
    yield Table(columns, rows)


def _device(plan: Plan) -> Facts:
    chip = plan.device
    peak = chip.peak[plan.training.precision]
    return Facts(
        [
            (
                Words("peak", "峰值"),
                f"{peak / 1e12:,.4g} TFLOP/s ({plan.training.precision}), {chip.bandwidth / 1e9:,.4g} GB/s",
            ),
            (
                Words("of it reached", "可达到"),
                Words(
                    f"{chip.efficiency[plan.training.precision]:.1%} by products, "
                    f"{chip.attention(plan.training.kernel):.1%} by attention",
                    f"矩阵乘法 {chip.efficiency[plan.training.precision]:.1%}，"
                    f"注意力 {chip.attention(plan.training.kernel):.1%}",
                ),
            ),
            (Words("fitted on", "拟合自"), chip.fitted),
            (Words("source", "来源"), chip.source),
        ]
    )


def _days(days: float) -> tuple[str, str]:
    """English and Chinese."""
    if days < 2:
        return duration(86_400 * days), duration(86_400 * days)
    return f"{amount(round(days, 1))} days", f"{amount(round(days, 1))} 天"


def _money(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars < 100 else amount(round(dollars))
