"""Safetensors files with faults, made from sound ones by a seed: the input of `fuzz_safetensors.py`.

A header is a list of (name, entry) pairs, an entry a list of (field, value) pairs, so that keys can stand twice and in
any order; a value may be `Raw`, text that goes in as it is.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

Pairs = list[tuple[Any, Any]]
Change = Callable[[random.Random, Pairs, int], Any]

WIDTHS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
WIDTHS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32}
WIDTHS |= {"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}
NUMBERS = [0, 1, 2, 3, 7, 8, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**60, 2**61, 2**62, 2**63 - 1, 2**63]
NUMBERS += [2**64 - 1, 2**64, 2**64 + 1, 2**65, 10**30, -1, -(2**31), -(2**63)]
LITERALS = [*"1.0 4.0 1e0 1E1 -0 -0.0 01 +1 0x4 1_0 .5 1. NaN Infinity -Infinity 1e400 -1e400".split(" ")]  # noqa: SIM905
LITERALS += [*"""null true false "" "1" [] {} [1] [[1]] 'F32' /**/ undefined [1,] [,1]""".split(" ")]  # noqa: SIM905
LITERALS += ['{"F32":null}', '{"F32":1}', "9" * 400, "", "// x", "1 2", "\u00a01", "\x00"]
NAMES = [*r"a __metadata__ __metadata \ud800 \udc00\ud800 \ud83d\ude00 \u0000 \u0061 \x41".split(" ")]  # noqa: SIM905
NAMES += ["\\u00e9", "\\/", "/", "..", "\\", "😀", "权重", "", "a" * 5000, "e\u0301", "\u202e", "\ufeff", "\t"]
NAMES += ["\x00", "\x1f", "\x7f"]
DTYPES = [
    *WIDTHS,
    "f32",
    "F31",
    "C128",
    "I4",
    "U4",
    "F8",
    "FP16",
    "bfloat16",
    "float32",
    "\\u004632",
    "",
    " F32",
    "F32 ",
]
FIELDS = ["dtype", "shape", "data_offsets", "Dtype", "offsets", "requires_grad", "", "shape ", "\\u0064type"]
SPACES = [" ", "\n", "\r\n", "\t", "  ", "\x0b", "\x0c", "\u00a0", "\u2028", "\ufeff", "\x00", "\n\n\n\n"]


class Raw(str):
    """Text that stands in the header as it is."""


class Mutant(NamedTuple):
    """A file: how it was made, whether the change is in its header, its bytes."""

    kind: str
    in_header: bool
    data: bytes


def shown(value: Any, space: str = "") -> str:
    """A value as JSON; pairs (a list of tuples) as a table. `space` goes behind each comma and colon."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Table):
        inner = (f"{shown(key)}:{space}{shown(item, space)}" for key, item in value.pairs)
        return "{" + f",{space}".join(inner) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(shown(item, space) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Table:
    """A JSON table that may have a key twice."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


def sound(rng: random.Random) -> tuple[Pairs, bytes]:
    """A header without faults and the bytes of its tensors."""
    pairs: Pairs = []
    at = 0
    for number in range(rng.choice([0, 1, 1, 2, 3, 3, 5, 12])):
        dtype = rng.choice([*WIDTHS, "F32", "BF16", "BF16", "F16"])
        shape = [rng.choice([0, 1, 1, 2, 3, 4, 7]) for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]
        if WIDTHS[dtype] < 8:
            shape.append(8)
        bits = WIDTHS[dtype]
        for size in shape:
            bits *= size
        name = rng.choice(["w", "model.layers.{}.mlp.up_proj.weight", "层{}", "a{}b"]).replace("{}", str(number))
        entry = [("dtype", dtype), ("shape", shape), ("data_offsets", [at, at + bits // 8])]
        pairs.append((f"{name}{number}", Table(entry)))
        at += bits // 8
    if rng.random() < 0.5:
        pairs.insert(0, ("__metadata__", Table([("format", "pt"), *[("k", "v")] * rng.choice([0, 1])])))
    return pairs, rng.randbytes(at)


def packed(header: bytes, data: bytes, pad: bool = True) -> bytes:
    """The file of a header and its tensors' bytes."""
    header += b" " * (-len(header) % 8 if pad else 0)
    return len(header).to_bytes(8, "little") + header + data


def _entries(pairs: Pairs) -> list[int]:
    return [at for at, (_, value) in enumerate(pairs) if isinstance(value, Table)]


def _an_entry(rng: random.Random, pairs: Pairs) -> Table:
    if not (places := _entries(pairs)):
        pairs.append(("n", Table([("dtype", "U8"), ("shape", [0]), ("data_offsets", [0, 0])])))
        places = [len(pairs) - 1]
    entry: Table = pairs[rng.choice(places)][1]
    return entry


def _strange(rng: random.Random) -> Any:
    return rng.choice([Raw(rng.choice(LITERALS)), rng.choice(NUMBERS), rng.choice(DTYPES), [], [rng.choice(NUMBERS)]])


def _string(text: str) -> Raw:
    return Raw(f'"{text}"')


def key_twice(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A name, or a field, stands twice, with the same or another value."""
    table = rng.choice([pairs, _an_entry(rng, pairs).pairs])
    if table:
        key, value = rng.choice(table)
        table.insert(rng.randint(0, len(table)), (key, rng.choice([value, value, _strange(rng)])))


def name_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A name becomes an odd one, as text or as escapes."""
    if pairs:
        at = rng.randrange(len(pairs))
        pairs[at] = (_string(rng.choice(NAMES)), pairs[at][1])


def field_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A field is renamed, dropped or added."""
    entry = _an_entry(rng, pairs).pairs
    act = rng.randrange(3)
    if act and entry:
        _, value = entry.pop(rng.randrange(len(entry)))
        if act == 2:
            entry.append((_string(rng.choice(FIELDS)), value))
    else:
        entry.insert(rng.randint(0, len(entry)), (_string(rng.choice(FIELDS)), _strange(rng)))


def value_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A field's value, or a whole entry, becomes something odd."""
    entry = _an_entry(rng, pairs).pairs
    if entry and rng.random() < 0.8:
        at = rng.randrange(len(entry))
        entry[at] = (entry[at][0], _strange(rng))
    elif pairs:
        at = rng.randrange(len(pairs))
        pairs[at] = (pairs[at][0], _strange(rng))


def dtype_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """Another dtype, known or not."""
    entry = _an_entry(rng, pairs).pairs
    for at, (key, _) in enumerate(entry):
        if key == "dtype":
            entry[at] = (key, _string(rng.choice(DTYPES)))


def number_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A size or an offset becomes a little or a lot larger, or no number."""
    lists = [value for _, value in _an_entry(rng, pairs).pairs if isinstance(value, list) and value]
    if lists:
        numbers = rng.choice(lists)
        at = rng.randrange(len(numbers))
        old = numbers[at] if isinstance(numbers[at], int) else 1
        near = [old + 1, old - 1, old + 2**32, old + 2**64, old * 2, size, size + 1]
        numbers[at] = rng.choice([rng.choice(near), rng.choice(NUMBERS), Raw(rng.choice(LITERALS)), Raw(f"{old}.0")])


def list_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """A shape or the offsets lose, gain or reorder numbers."""
    lists = [value for _, value in _an_entry(rng, pairs).pairs if isinstance(value, list)]
    if lists:
        numbers = rng.choice(lists)
        act = rng.randrange(4)
        if act == 0 and numbers:
            numbers.pop()
        elif act == 1:
            numbers.insert(rng.randint(0, len(numbers)), rng.choice([0, 1, 1, *NUMBERS]))
        elif act == 2:
            rng.shuffle(numbers)
        else:
            numbers.extend([1] * rng.choice([1, 10, 100, 1000]))


def offsets_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """Two tensors exchange or share their bytes, or one moves."""
    places = _entries(pairs)
    if len(places) >= 2:
        one, two = (pairs[at][1].pairs for at in rng.sample(places, 2))
        mine = next((value for key, value in one if key == "data_offsets"), None)
        other = next((value for key, value in two if key == "data_offsets"), None)
        if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other) == 2:
            if rng.random() < 0.2:
                mine[:], other[:] = list(other), list(mine)
            else:
                shift = rng.choice([-8, -1, 1, 2, 8])
                mine[:] = [n + shift if isinstance(n, int) else n for n in (other if rng.random() < 0.2 else mine)]


def metadata_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """The metadata become null, a list, or hold something else than strings, or a key twice."""
    inner = Table(
        [(rng.choice(["a", "a", _string(rng.choice(NAMES))]), rng.choice(["x", _strange(rng)])) for _ in "ab"]
    )
    value = rng.choice([Raw("null"), Raw("null"), inner, inner, inner, _strange(rng)])
    pairs.insert(rng.randint(0, len(pairs)), ("__metadata__", value))


def order_changed(rng: random.Random, pairs: Pairs, size: int) -> None:
    """Names and fields stand in another order, which is no fault."""
    rng.shuffle(pairs)
    rng.shuffle(_an_entry(rng, pairs).pairs)


def nested(rng: random.Random, pairs: Pairs, size: int) -> None:
    """Lists or tables in each other, up to 20,000 deep."""
    deep = rng.choice([2, 100, 127, 128, 129, 1000, 20_000])
    text = rng.choice(["[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, "[" * deep])
    if rng.random() < 0.5:
        pairs.append(("deep", Raw(text)))
    else:
        _an_entry(rng, pairs).pairs.append((rng.choice(["x", "shape"]), Raw(text)))


def as_list(rng: random.Random, pairs: Pairs, size: int) -> None:
    """An entry is a list of its values, which some readers take."""
    if places := _entries(pairs):
        at = rng.choice(places)
        pairs[at] = (pairs[at][0], [value for _, value in pairs[at][1].pairs])


STRUCTURAL: tuple[Change, ...] = (
    key_twice, name_changed, field_changed, value_changed, dtype_changed, number_changed, number_changed,
    list_changed, offsets_changed, offsets_changed, metadata_changed, order_changed, nested, as_list,
)  # fmt: skip


def structural(rng: random.Random) -> Mutant:
    """One to three changes of a header's values, names, order."""
    pairs, data = sound(rng)
    changes = rng.choices(STRUCTURAL, k=rng.choice([1, 1, 1, 2, 3]))
    for change in changes:
        change(rng, pairs, len(data))
    text = shown(Table(pairs), rng.choice(["", "", " ", "\n "]))
    return Mutant(changes[0].__name__, True, packed(_encoded(text), data, rng.random() < 0.8))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def spaced(rng: random.Random) -> Mutant:
    """White space, or what some take for it, in front, behind or between."""
    pairs, data = sound(rng)
    text = shown(Table(pairs))
    marks = [at for at, mark in enumerate(text) if mark in "{}[],:"]
    for _ in range(rng.choice([1, 2])):
        at = rng.choice([0, len(text), rng.choice(marks)])
        text = text[:at] + rng.choice(SPACES) + text[at:]
    return Mutant("spaced", True, packed(_encoded(text), data, rng.random() < 0.5))


def bytewise(rng: random.Random) -> Mutant:
    """Bytes of the header flipped, put in, taken out, doubled, or taken from another header."""
    pairs, data = sound(rng)
    header = bytearray(_encoded(shown(Table(pairs))))
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(header)) if header else 0
        act = rng.randrange(6)
        if act == 0 and header:
            header[at] ^= 1 << rng.randrange(8)
        elif act == 1 and header:
            header[at] = rng.choice(b'{}[]",:\\0159 eE-.\x00\xff\xc0\xed\xf8')
        elif act == 2:
            header.insert(at, rng.randrange(256))
        elif act == 3:
            del header[at : at + rng.choice([1, 1, 2, 10])]
        elif act == 4:
            header[at:at] = header[at : at + rng.randint(1, 40)]
        else:
            other = _encoded(shown(Table(sound(rng)[0])))
            header[at:] = other[rng.randrange(len(other)) :]
    return Mutant("bytewise", True, packed(bytes(header), data, rng.random() < 0.5))


def length_changed(rng: random.Random) -> Mutant:
    """The header's length says something else, or the file is cut in its header."""
    pairs, data = sound(rng)
    file = packed(_encoded(shown(Table(pairs))), data)
    length = int.from_bytes(file[:8], "little")
    if rng.random() < 0.3:
        return Mutant("cut in the header", True, file[: rng.randrange(8 + length)])
    near = [length + rng.choice([-8, -2, -1, 1, 2, 8]), length + len(data), 0, 1, 2]
    far = [100_000_000, 100_000_001, 2**31, 2**32 + length, 2**63, 2**64 - 1, 2**64 - 8, rng.randrange(2**64)]
    stated = max(0, rng.choice([*near, *near, *far]))
    return Mutant("length", True, stated.to_bytes(8, "little") + file[8:])


def flood(rng: random.Random) -> Mutant:
    """A header of a megabyte."""
    count = 1_000_000
    header = rng.choice(
        [
            b'{"a":[' + b"[]," * (count // 3) + b"[]]}",
            b'{"a":{"dtype":"U8","shape":[' + b"1," * (count // 2) + b'1],"data_offsets":[0,0]}}',
            b'{"__metadata__":{' + b",".join(b'"%d":""' % n for n in range(count // 10)) + b"}}",
            b'{"' + "😀".encode() * (count // 4) + b'":1}',
            b"{" + b" " * count + b"}",
            b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(9000)) + b"}",
            b"{" + b'"a":1,' * (count // 6) + b'"b":1}',
            b'{"a":' + b"9" * count + b"}",
        ]
    )
    return Mutant("flood", True, packed(header, b""))


def data_changed(rng: random.Random) -> Mutant:
    """The header is sound; tensors' bytes are changed, cut or too many."""
    pairs, data = sound(rng)
    file = bytearray(packed(_encoded(shown(Table(pairs))), data))
    act = rng.randrange(3)
    if act == 0 and data:
        file[-rng.randint(1, len(data))] ^= 1 << rng.randrange(8)
    elif act == 1:
        file += rng.randbytes(rng.choice([1, 8, 100]))
    else:
        del file[len(file) - rng.randint(0, len(data)) :]
    return Mutant("data", False, bytes(file))


def json_cases(path: Path) -> list[bytes]:
    """The inputs of a JSON test suite, as a `.jsonl.zst` with `bytes_base64`."""
    with zstandard.open(path, "rb") as file:
        return [base64.b64decode(json.loads(line)["bytes_base64"]) for line in io.TextIOWrapper(file, encoding="utf-8")]


def of_a_suite(case: bytes, form: int) -> Mutant:
    """A JSON test as a whole header, as a tensor's entry, or as a metadata value."""
    header = (case, b'{"w":' + case + b"}", b'{"__metadata__":{"k":' + case + b"}}")[form]
    return Mutant("json test suite", True, packed(header, b""))


def mutant(seed: int, number: int) -> Mutant:
    """The `number`-th changed file of a seed."""
    rng = random.Random(f"{seed} {number}")
    makers = [structural] * 60 + [bytewise] * 20 + [length_changed] * 6 + [spaced] * 6 + [data_changed] * 8
    return flood(rng) if number % 500 == 499 else rng.choice(makers)(rng)
