"""The product of packed weights with rows of bfloat16, compiled for this CPU when it is first wanted.

PyTorch's own operations for such weights are slower than bfloat16 from 8 rows on, and of 8 bits take one scale a row.
This one reads the words as a checkpoint has them, makes each weight the bfloat16 number that it stands for, and adds
up by AVX512-BF16's dot product: the same terms as a product of the unpacked matrix. A row's sums are in the same order
however many rows there are, so that its bits are too. Written for LLVM, which comes with numba: no compiler is needed.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch

STEP = 32
"""Weights of a row that are taken at a time; groups must be multiples of it."""
BLOCK = 4
"""Rows of the matrix, and of the input, that are taken together while the input has no more: 16 sums in registers."""
WIDE = 6
"""Rows of the matrix that are taken with BLOCK of the input where it has more: 24 sums in registers."""

Kernel = Callable[..., None]
"""(x, words, scales, y, scratch: addresses; rows of x, first and last row + 1 of the matrix, columns, group, all rows)
-> None. bfloat16 are x [rows, columns], scales, y [rows, matrix rows] and scratch [WIDE, columns], used for more rows
than BLOCK; words [matrix rows, columns · bits / 8], 8 bits as int8. The range is empty or ends behind row WIDE - 1.
"""


def missing() -> str | None:
    """What this machine lacks to compute with packed weights; None where nothing is missing."""
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return "this CPU has no AVX512-BF16"
    return None if importlib.util.find_spec("llvmlite") else "the package llvmlite is not installed"


@functools.cache
def kernel(bits: int) -> Kernel:
    """The product for weights of 8 or 4 bits. Compiling takes a tenth of a second."""
    import llvmlite.binding as llvm  # type: ignore[import-untyped]

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(str(_Writer(bits).module))
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 6)
    made = kind(engine.get_function_address("product"))
    made.engine = engine  # type: ignore[attr-defined]  # owns the code
    return made


def _halves(size: int) -> tuple[list[int], list[int]]:
    """The lanes of two vectors of 16: of each stretch of 2 `size`, the lower half, and the upper."""
    lower, upper = ([lane for at in range(begin, 32, 2 * size) for lane in range(at, at + size)] for begin in (0, size))
    return lower, upper


class _Writer:
    """Writes the product as LLVM's intermediate language. `b` is the builder, which stands where code is added.

    For 1 to BLOCK rows weights are used where they are made; for more, WIDE rows of the matrix are made in scratch,
    which stays near, and used for all rows. The last block of either kind begins early enough to be
    whole: what lies in two blocks is computed twice, with the same result.
    """

    def __init__(self, bits: int) -> None:
        import llvmlite.ir as ir  # type: ignore[import-untyped]

        class BFloat(ir.Type):  # type: ignore[misc]
            """LLVM's bfloat, which llvmlite doesn't name."""

            def _to_string(self) -> str:
                return "bfloat"

            def __eq__(self, other: object) -> bool:
                return isinstance(other, BFloat)

            def __hash__(self) -> int:
                return hash("bfloat")

        self.ir, self.bits = ir, bits
        self.i8, self.i16, self.i32, self.i64 = (ir.IntType(width) for width in (8, 16, 32, 64))
        self.f32 = ir.FloatType()
        self.floats, self.words32 = ir.VectorType(self.f32, 16), ir.VectorType(self.i32, 16)
        self.bfloats, self.words16 = ir.VectorType(BFloat(), STEP), ir.VectorType(self.i16, STEP)
        self.module = ir.Module("packed")
        self.dot = self._outer("llvm.x86.avx512bf16.dpbf16ps.512", self.floats, self.bfloats, self.bfloats)
        self.narrow = self._outer("llvm.x86.avx512bf16.cvtne2ps2bf16.512", self.floats, self.floats, to=self.bfloats)
        self.pick = self._outer("llvm.x86.avx512.permvar.hi.512", self.words16, self.words16)
        self.fetch = self._outer(
            "llvm.prefetch.p0", self.i8.as_pointer(), self.i32, self.i32, self.i32, to=ir.VoidType()
        )
        self._write()

    def _outer(self, name: str, *given: Any, to: Any = None) -> Any:
        return self.ir.Function(self.module, self.ir.FunctionType(to or given[0], given), name)

    def _write(self) -> None:
        ir, i64 = self.ir, self.i64
        short, byte = self.i16.as_pointer(), self.i8.as_pointer()
        given = [short, byte, short, short, short, *[i64] * 6]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), given), "product")
        self.x, self.words, self.scales, self.y, self.scratch, *counts = function.args
        self.rows, self.first, self.end, self.columns, self.group, self.outputs = counts
        b = self.b = ir.IRBuilder(function.append_basic_block())
        self.groups = b.sdiv(self.columns, self.group)
        self.row_bytes = b.sdiv(b.mul(self.columns, i64(self.bits)), i64(8))
        self.zero = ir.Constant(self.floats, [0.0] * 16)
        many = function.append_basic_block()
        switch = b.switch(self.rows, many)
        for count in range(1, BLOCK + 1):
            few = function.append_basic_block()
            switch.add_case(i64(count), few)
            b.position_at_end(few)
            self._blocks(self.first, self.end, functools.partial(self._few, count))
            b.ret_void()
        b.position_at_end(many)
        self._blocks(self.first, self.end, self._many, WIDE)
        b.ret_void()

    def _loop(self, begin: Any, end: Any, step: int, body: Callable[[Any, list[Any]], Any], start: Any = ()) -> Any:
        """for (i = begin; i < end; i += step) state = body(i, state); returns the last state."""
        b, function = self.b, self.b.function
        head, inside, behind = (function.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        at = b.phi(self.i64)
        at.add_incoming(begin, before)
        state = [b.phi(value.type) for value in start]
        for value, phi in zip(start, state, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", at, end), inside, behind)
        b.position_at_end(inside)
        made = body(at, state) or []
        at.add_incoming(b.add(at, self.i64(step)), b.block)
        for value, phi in zip(made, state, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(behind)
        return state

    def _blocks(self, begin: Any, end: Any, body: Callable[[Any], None], size: int = BLOCK) -> None:
        """body(i) for every block of `size` from begin to end, the last one moved forward so that it ends there."""
        b = self.b
        last = b.sub(end, self.i64(size))

        def block(at: Any, _: Sequence[Any]) -> None:
            body(b.select(b.icmp_signed("<", at, last), at, last))

        self._loop(begin, end, size, block)

    def _at(self, pointer: Any, index: Any, kind: Any, align: int) -> Any:
        loaded = self.b.load(self.b.bitcast(self.b.gep(pointer, [index]), kind.as_pointer()))
        loaded.align = align
        return loaded

    def _plus(self, value: Any, number: int) -> Any:
        return self.b.add(value, self.i64(number))

    def _scale(self, row: Any, group: Any) -> Any:
        """16 times the scale; in 4 bits the table of the 16 weights that it makes of the codes, twice."""
        b, ir = self.b, self.ir
        half = b.load(b.gep(self.scales, [b.add(b.mul(row, self.groups), group)]))
        number = b.bitcast(b.shl(b.zext(half, self.i32), self.i32(16)), self.f32)
        nothing = ir.Constant(self.floats, ir.Undefined)
        one = b.insert_element(nothing, number, self.i32(0))
        all_lanes = b.shuffle_vector(one, nothing, ir.Constant(self.words32, [0] * 16))
        if self.bits == 8:
            return all_lanes
        table = b.fmul(all_lanes, ir.Constant(self.floats, [float(code - 8) for code in range(16)]))
        return b.bitcast(b.call(self.narrow, [table, table]), self.words16)

    def _weights(self, row: Any, column: Any, scale: Any) -> Any:
        """STEP weights of a row from a column on, in bfloat16."""
        b, ir = self.b, self.ir
        byte = b.add(b.mul(row, self.row_bytes), column if self.bits == 8 else b.lshr(column, self.i64(1)))
        # rows are too short for the CPU to see that the next block follows
        ahead = b.gep(self.words, [b.add(byte, b.mul(self.row_bytes, self.i64(BLOCK)))])
        b.call(self.fetch, [ahead, self.i32(0), self.i32(3), self.i32(1)])
        bytes16 = ir.VectorType(self.i8, 16)
        if self.bits == 8:
            halves = []
            for which in range(2):
                codes = b.sext(self._at(self.words, self._plus(byte, 16 * which), bytes16, 1), self.words32)
                halves.append(b.fmul(b.sitofp(codes, self.floats), scale))
            return b.call(self.narrow, [halves[1], halves[0]])
        # a byte's two codes become the low bits of two places, in order; of a place the table looks at 5 bits
        pairs = b.zext(self._at(self.words, byte, bytes16, 1), self.words32)
        places = b.or_(pairs, b.shl(pairs, ir.Constant(self.words32, [12] * 16)))
        return b.bitcast(b.call(self.pick, [scale, b.bitcast(places, self.words16)]), self.bfloats)

    def _input(self, row: Any, column: Any) -> Any:
        return self._at(self.x, self.b.add(self.b.mul(row, self.columns), column), self.bfloats, 2)

    def _finish(self, row: Any, matrix_row: Any, sums: Sequence[Any], width: int = BLOCK) -> None:
        """Put `width` sums for each row from `row` on where they belong, in bfloat16: of each, all lanes added up.

        Upper to lower half, of that upper to lower half … : two vectors' halves go into one, so that four such levels
        leave one vector with a lane for each of up to 16 sums; `owners` follows which. What is added to what is the
        same for any number of sums.
        """
        b, ir = self.b, self.ir
        found = [(lanes, [place] * 16) for place, lanes in enumerate(sums)]
        for lower, upper in map(_halves, (8, 4, 2, 1)):
            found += found[-1:] * (len(found) % 2)  # with itself, where there is no other
            pairs = zip(found[::2], found[1::2], strict=True)
            found = []
            for (first, its), (second, others) in pairs:
                halves = [b.shuffle_vector(first, second, ir.Constant(self.words32, mask)) for mask in (lower, upper)]
                found.append((b.fadd(*halves), [(its + others)[lane] for lane in lower]))
        ((whole, owners),) = found
        narrow = b.bitcast(b.call(self.narrow, [whole, whole]), self.words16)
        for at in range(len(sums) // width):
            lanes = [owners.index(at * width + place) for place in range(width)]
            some = b.shuffle_vector(narrow, narrow, ir.Constant(ir.VectorType(self.i32, width), lanes))
            place = b.gep(self.y, [b.add(b.mul(self._plus(row, at), self.outputs), matrix_row)])
            b.store(some, b.bitcast(place, some.type.as_pointer())).align = 2

    def _few(self, count: int, row: Any) -> None:
        """BLOCK rows of the matrix from `row` on, with the `count` rows that there are."""
        b = self.b

        def group(number: Any, sums: list[Any]) -> Any:
            scales = [self._scale(self._plus(row, place), number) for place in range(BLOCK)]

            def step(column: Any, sums: list[Any]) -> list[Any]:
                sums = list(sums)
                inputs = [self._input(self.i64(at), column) for at in range(count)]
                for place, scale in enumerate(scales):
                    weights = self._weights(self._plus(row, place), column, scale)
                    for at, x in enumerate(inputs):
                        sums[at * BLOCK + place] = b.call(self.dot, [sums[at * BLOCK + place], x, weights])
                return sums

            begin = b.mul(number, self.group)
            return self._loop(begin, b.add(begin, self.group), STEP, step, sums)

        sums = self._loop(self.i64(0), self.groups, 1, group, [self.zero] * (BLOCK * count))
        self._finish(self.i64(0), row, sums)

    def _many(self, row: Any) -> None:
        """WIDE rows of the matrix from `row` on, with all rows."""
        b = self.b
        for place in range(WIDE):
            self._unpack(self._plus(row, place), b.mul(self.columns, self.i64(place)))

        def block(first: Any) -> None:
            def step(column: Any, sums: list[Any]) -> list[Any]:
                made = []
                places = [b.add(b.mul(self.columns, self.i64(place)), column) for place in range(WIDE)]
                weights = [self._at(self.scratch, place, self.bfloats, 2) for place in places]
                for at in range(BLOCK):
                    x = self._input(self._plus(first, at), column)
                    made += [b.call(self.dot, [sums[at * WIDE + n], x, weights[n]]) for n in range(WIDE)]
                return made

            sums = self._loop(self.i64(0), self.columns, STEP, step, [self.zero] * (WIDE * BLOCK))
            for at in range(0, BLOCK, 2):  # of 16 sums at most
                self._finish(self._plus(first, at), row, sums[at * WIDE : (at + 2) * WIDE], WIDE)

        self._blocks(self.i64(0), self.rows, block)

    def _unpack(self, row: Any, to: Any) -> None:
        """A row's weights into scratch, from `to` on."""
        b = self.b

        def group(number: Any, _: Sequence[Any]) -> None:
            scale = self._scale(row, number)

            def step(column: Any, _: Sequence[Any]) -> None:
                place = b.bitcast(b.gep(self.scratch, [b.add(to, column)]), self.bfloats.as_pointer())
                b.store(self._weights(row, column, scale), place).align = 2

            begin = b.mul(number, self.group)
            self._loop(begin, b.add(begin, self.group), STEP, step)

        self._loop(self.i64(0), self.groups, 1, group)
