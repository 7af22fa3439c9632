"""What an ablation says in words and rows, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zhen.ablate.mixture import MixtureFit
from zhen.ablate.results import ALL, Comparison, PointResult
from zhen.ablate.scaling import ScalingFit
from zhen.console import amount, size
from zhen.pages.parts import Words

COLUMNS = (
    Words("point", "设置"),
    Words("parameters", "参数"),
    Words("cache a token", "每词元缓存"),
    Words("FLOPs", "计算量"),
    Words("tokens/s", "词元/秒"),
)

BESIDE = Words("beside the first", "与第一个相比")


def columns(compared: bool) -> list[str]:
    """The heads of `row`."""
    first = [BESIDE, Words("verdict", "判断")]
    return [*COLUMNS, Words("bits a byte", "每字节比特"), *(first if compared else [])]


def row(point: PointResult, comparison: Comparison | None, compared: bool) -> list[str]:
    """A point's line of the table; without a comparison it is the first, or nothing is compared."""
    rate = point.rate()
    cells = [
        point.name,
        f"{point.parameters / 1e6:.2f} M",
        size(point.kv_bytes_per_token),
        f"{point.flops:.2e}",
        amount(round(rate)) if rate else "–",
        spread(point, ALL),
    ]
    return [*cells, *(_beside(comparison) if compared else [])]


def by_language(languages: Sequence[str], compared: bool) -> list[str]:
    """The heads of `of_languages`."""
    return [head for name in languages for head in (Words(name, name), *([BESIDE] if compared else []))]


def of_languages(point: PointResult, found: Sequence[tuple[str, Comparison | None]], compared: bool) -> list[str]:
    """A point in each language, and beside the first point in it."""
    return [
        cell
        for name, comparison in found
        for cell in (spread(point, name), *(_beside(comparison)[:1] if compared else []))
    ]


def spread(point: PointResult, language: str) -> str:
    """`1.8123 ± 0.0021`: mean and standard deviation over the seeds."""
    mean, deviation = point.mean(language), point.spread(language)
    if mean is None:
        return "–"
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _beside(comparison: Comparison | None) -> list[str]:
    return ["", ""] if comparison is None else [beside(comparison), VERDICTS[comparison.verdict]]


def changes(values: Mapping[str, Any]) -> str:
    """`model.rope_theta = 10000.0, …`."""
    return ", ".join(f"{key} = {value}" for key, value in values.items())


def beside(comparison: Comparison) -> str:
    """`-0.0123 ± 0.0040`: the difference with its interval."""
    if comparison.difference is None:
        return "–"
    width = "" if comparison.half_width is None else f" ± {comparison.half_width:.4f}"
    return f"{comparison.difference:+.4f}{width}"


VERDICTS = {
    "lower": Words("better", "更好"),
    "higher": Words("worse", "更差"),
    "not told apart": Words("not told apart", "分不出"),
    "one seed": Words("one seed: can't say", "只有一个种子：不能判断"),
    "no pair": Words("no run of the first to compare with", "第一个没有可比的运行"),
    "diverged": Words("diverged", "发散"),
}


def verdict(points: Sequence[PointResult], comparisons: Sequence[Comparison]) -> Words:
    """The answer in a sentence: which points are better or worse than the first, and how sure that is."""
    found = {each.point: each for each in comparisons if each.language == ALL}
    first = points[0].name
    parts: list[str] = []
    chinese: list[str] = []
    for name in VERDICTS:
        told = [each.point for each in found.values() if each.verdict == name]
        if told:
            parts.append(f"{VERDICTS[name]}: {', '.join(told)}")
            chinese.append(f"{VERDICTS[name].zh}：{'、'.join(told)}")
    partly = diverged_in_part(points)
    return Words(
        f"Beside {first}, with 95 % confidence for all comparisons together: {'; '.join(parts)}.{partly}",
        f"与 {first} 相比，全部比较合计置信度 95 %：{'；'.join(chinese)}。{partly.zh}",
    )


def diverged_in_part(points: Sequence[PointResult]) -> Words:
    """Which points diverged with some of their seeds; empty where none did."""
    found = {
        point.name: (seeds, len(point.outcomes))
        for point in points
        if 0 < len(seeds := [each.seed for each in point.outcomes if each.diverged]) < len(point.outcomes)
    }
    if not found:
        return Words("", "")
    told = [f"{name} with {_numbered(seeds)} of {count}" for name, (seeds, count) in found.items()]
    chinese = [f"{name}（{count} 个种子中的 {'、'.join(map(str, seeds))}）" for name, (seeds, count) in found.items()]
    return Words(
        f" Diverged with some seeds, and compared by the others: {'; '.join(told)}.",
        f"部分种子发散，仅按其余种子比较：{'；'.join(chinese)}。",
    )


def _numbered(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def mixture_verdict(fit: MixtureFit) -> Words:
    """What the search chose, and whether the run behind it agrees."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in fit.shares.items())
    found = sum(fit.found) / len(fit.found) if fit.found else None
    promised = f"{fit.predicted:.4f} ({fit.low:.4f} to {fit.high:.4f})"
    if found is None:
        return Words(
            f"Best mixture: {shares}; {promised} bits a byte are expected there, and the confirming runs diverged.",
            f"最佳配比：{shares}；预期每字节 {promised} 比特，验证运行发散。",
        )
    inside, zh = ("inside", "在区间内") if fit.confirmed else ("outside", "在区间外")
    return Words(
        f"Best mixture: {shares}. Expected {promised} bits a byte; {len(fit.found)} confirming runs came to "
        f"{found:.4f}, {inside} the interval.",
        f"最佳配比：{shares}。预期每字节 {promised} 比特；{len(fit.found)} 次验证运行得到 {found:.4f}，{zh}。",
    )


def scaling_verdict(fit: ScalingFit) -> Words:
    """The law, and how it did on the run that it had not seen."""
    law = fit.law
    formula = f"L = {law.e:.3f} + {law.a:.3g}/N^{law.alpha:.3f} + {law.b:.3g}/D^{law.beta:.3f}"
    half = (fit.high - fit.low) / 2 / fit.predicted
    promised = f"{fit.predicted:.4f} ± {half:.1%}"
    if fit.found is None:
        found, zh = "it diverged", "该运行发散"
    else:
        found = f"{fit.found:.4f} was found, {'inside' if fit.inside else 'outside'} the interval"
        zh = f"实测 {fit.found:.4f}，{'在区间内' if fit.inside else '在区间外'}"
    return Words(
        f"{formula}. For {fit.held_out}, {fit.larger:.1f} times the FLOPs of any run in the fit, {promised} bits a "
        f"byte are expected; {found}.",
        f"{formula}。{fit.held_out} 的计算量是拟合所用最大运行的 {fit.larger:.1f} 倍，"
        f"预期每字节 {promised} 比特；{zh}。",
    )
