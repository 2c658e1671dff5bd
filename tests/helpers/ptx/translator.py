"""PTX as C++: what the compilers of CUDA made of a kernel, to be run on a CPU.

Each kernel becomes a function with a variable for each register, a label for each label, and a
statement for each instruction; what touches memory and what waits is a call of `machine.h`. Every
barrier has a number, so that a test can leave one of them out. An instruction that is not known, or
known otherwise, is a ValueError: nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\((.*?)\)[^{;]*\{(.*?)^\}", re.S | re.M)
SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.[bfsu](\d+)\s+([\w$]+)(?:\[(\d+)\])?;")
REGISTER = re.compile(r"%(rd|rs|r|p|fd|f)\d+$")
NUMBER = re.compile(r"-?(0x[0-9A-Fa-f]+|\d+)U?$")
LABEL = re.compile(r"(\$[\w$]+):\s*")
PREDICATE = re.compile(r"@(!?)%(p\d+)\s+")
ADDRESS = re.compile(r"\[([%\w$]+)(?:\+(-?\d+))?\]$")
OPERAND = re.compile(r"\s*(\{[^}]*\}|\[[^\]]*\]|[^,\s]+)\s*(?:,|$)")
TYPE_OF_REGISTER = {"rd": "u64", "r": "u32", "rs": "u16", "p": "pred", "fd": "f64", "f": "f32"}
C = {
    **{f"s{w}": f"int{w}_t" for w in (8, 16, 32, 64)},
    **{f"{k}{w}": f"uint{w}_t" for k in "ub" for w in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
    "pred": "bool",
}
PLACES = {
    f"%{name}.{axis}": f"{variable}.{axis}"
    for name, variable in zip(
        ("tid", "ntid", "ctaid", "nctaid"),
        ("threadIdx", "blockDim", "blockIdx", "gridDim"),
        strict=True,
    )
    for axis in "xyz"
}
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
# False where an operand is a NaN; those with a "u" behind are the negation of their opposite.
ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
OPPOSITE = {"neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}
WHOLE = {**ORDERED, "ne": "!=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


@dataclass(frozen=True)
class Translated:
    """A kernel.

    Attributes:
        code: C++, for a program that begins with `#include "machine.h"`.
        barriers: the numbers of its barriers in the program, those of a warp among them.
    """

    name: str
    code: str
    barriers: range


def translate(ptx: str, first_barrier: int = 0, name: str | None = None) -> list[Translated]:
    """All kernels of a PTX file.

    Args:
        first_barrier: the number of the first barrier. name: for its only kernel, in place of its
            own.

    Raises:
        ValueError: what stands there is not known to the translator.
    """
    text = re.sub(r"//[^\n]*", "", ptx)
    outside = SHARED.findall(ENTRY.sub("", text))
    kernels = []
    for found, parameters, body in ENTRY.findall(text):
        kernel = _Kernel(name or found, parameters, body, outside, first_barrier)
        kernels.append(kernel.translated())
        first_barrier = kernels[-1].barriers.stop
    if not kernels or (name and len(kernels) > 1):
        raise ValueError(f"{len(kernels)} kernels in this PTX")
    return kernels


def _is_float(kind: str) -> bool:
    return kind[0] == "f"


class _Kernel:
    def __init__(
        self,
        name: str,
        parameters: str,
        body: str,
        outside: list[tuple[str, str, str, str]],
        first_barrier: int,
    ) -> None:
        self.name, self.body, self.first_barrier = name, body, first_barrier
        self.barriers = 0
        words = [line.split() for line in parameters.split(",") if line.strip()]
        self.parameters = {word[-1]: i for i, word in enumerate(words)}
        self.sizes = [int(re.sub(r"\D", "", word[-2])) // 8 for word in words]
        self.shared: dict[str, int] = {}
        self.shared_bytes = 0
        for align, bits, variable, count in dict.fromkeys(outside + SHARED.findall(body)):
            if re.search(re.escape(variable) + r"(?![\w$])", body):
                start = -(-self.shared_bytes // int(align)) * int(align)
                self.shared[variable] = start
                self.shared_bytes = start + int(bits) // 8 * int(count or 1)

    def translated(self) -> Translated:
        declared = re.findall(r"\.reg\s+\.\w+\s+%(\w+)<(\d+)>;", self.body)
        registers = [
            f"{C[TYPE_OF_REGISTER[prefix]]} {', '.join(f'{prefix}{i}{{}}' for i in range(int(n)))};"
            for prefix, n in declared
        ]
        lines = []
        text = re.sub(r"^\s*\.(reg|shared|pragma)[^\n]*", "", self.body, flags=re.M)
        for line in re.split(r"[;\n]", text):
            statement = line.strip()
            while label := LABEL.match(statement):
                lines.append(f"{label[1].replace('$', '')}:;")
                statement = statement[label.end() :]
            if statement:
                lines.append(self._statement(statement))
        sizes = " ".join(f"sizes[{i}] = {size};" for i, size in enumerate(self.sizes))
        barriers = range(self.first_barrier, self.first_barrier + self.barriers)
        code = "\n".join(
            [
                f"static void kernel_{self.name}(void **arguments) {{",
                *registers,
                *lines,
                "}",
                f'extern "C" int describe_{self.name}(int *sizes) '
                f"{{ {sizes} return {len(self.sizes)}; }}",
                f"RUNS({self.name}, {self.shared_bytes})",
            ]
        )
        return Translated(self.name, code, barriers)

    def _statement(self, statement: str) -> str:
        guard = ""
        if predicate := PREDICATE.match(statement):
            guard = f"if ({predicate[1]}{predicate[2]}) "
            statement = statement[predicate.end() :]
        operation, _, rest = statement.replace("\t", " ").partition(" ")
        name, *parts = operation.split(".")
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise ValueError(f"{self.name}: {statement}")
        try:
            return f"{guard}{{ {method(parts, OPERAND.findall(rest))} }}"
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{self.name}: {statement} ({error})") from error

    # Operands ----------------------------------------------------------------------------------

    def _value(self, operand: str, kind: str) -> str:
        """An operand as a number of this kind."""
        if operand in PLACES:
            return f"({C[kind]}){PLACES[operand]}"
        if register := REGISTER.match(operand):
            own = TYPE_OF_REGISTER[register[1]]
            if kind == "pred" or own == "pred":
                if kind != own:
                    raise ValueError("a predicate is no number")
                return operand[1:]
            if _is_float(own) != _is_float(kind):
                return f"bits<{C[kind]}>({operand[1:]})"
            if _is_float(own) and own != kind:
                raise ValueError("a register of another width")
            return f"({C[kind]}){operand[1:]}"
        if operand[:2] in ("0d", "0f"):
            return f"bits<{C[kind]}>(uint{4 * len(operand[2:])}_t(0x{operand[2:]}))"
        if operand in self.shared:
            return f"({C[kind]}){self.shared[operand]}"
        if not NUMBER.match(operand) or _is_float(kind):
            raise ValueError(operand)
        number = int(operand.rstrip("U"), 0)
        return f"({C[kind]}){number % 2**64}ull"

    def _put(self, target: str, kind: str, expression: str) -> str:
        register = REGISTER.match(target)
        if register is None:
            raise ValueError(target)
        own = TYPE_OF_REGISTER[register[1]]
        if own != "pred" and _is_float(own) != _is_float(kind):
            return f"{target[1:]} = bits<{C[own]}>(({C[kind]})({expression}));"
        return f"{target[1:]} = ({C[kind]})({expression});"

    def _address(self, operand: str) -> str:
        place = ADDRESS.match(operand)
        if place is None:
            raise ValueError(operand)
        offset = int(place[2] or 0)
        if place[1] in self.shared:
            return f"(uint64_t){self.shared[place[1]] + offset}"
        if not REGISTER.match(place[1]):
            raise ValueError(operand)
        # An address in shared memory may be 32 bits wide.
        return f"(uint64_t)({place[1][1:]} + ({offset}))"

    # Control and memory ------------------------------------------------------------------------

    def _bra(self, parts: list[str], operands: list[str]) -> str:
        return f"goto {operands[0].replace('$', '')};"

    def _ret(self, parts: list[str], operands: list[str]) -> str:
        return "return;"

    def _bar(self, parts: list[str], operands: list[str]) -> str:
        kinds = {("sync", "0"): "barrier", ("warp.sync", "-1"): "barrier_of_warp"}
        kind = kinds[".".join(parts), *operands]
        self.barriers += 1
        return f"{kind}({self.first_barrier + self.barriers - 1});"

    def _barrier(self, parts: list[str], operands: list[str]) -> str:
        return self._bar(parts, operands)

    def _membar(self, parts: list[str], operands: list[str]) -> str:
        if parts != ["gl"]:
            raise ValueError("another fence")
        return ""  # threads take turns, and what one has written the next one reads

    def _fence(self, parts: list[str], operands: list[str]) -> str:
        return self._membar(["gl"] if parts in (["acq_rel", "gpu"], ["sc", "gpu"]) else [], [])

    def _nanosleep(self, parts: list[str], operands: list[str]) -> str:
        return "cuda_on_cpu::leave(cuda_on_cpu::SPINNING);"

    def _ld(self, parts: list[str], operands: list[str]) -> str:
        space, kind = parts[0], parts[-1]
        target, place = operands
        if space == "param" and len(parts) == 2:
            where = ADDRESS.match(place)
            assert where is not None
            argument = f"arguments[{self.parameters[where[1]]}]"
            number = f"parameter<{C[kind]}>({argument}, {where[2] or 0})"
            return self._put(target, kind, number)
        if parts[:-1] == ["volatile", "global"]:
            return self._put(target, kind, f"observed<{C[kind]}>({self._address(place)})")
        if parts[:-1] not in (["shared"], ["global"], ["global", "nc"]):
            raise ValueError("another load")
        return self._put(target, kind, f"load_{space}<{C[kind]}>({self._address(place)})")

    def _st(self, parts: list[str], operands: list[str]) -> str:
        space, kind = parts
        if space not in ("shared", "global"):
            raise ValueError("another store")
        place, value = operands
        return f"store_{space}<{C[kind]}>({self._address(place)}, {self._value(value, kind)});"

    def _atom(self, parts: list[str], operands: list[str]) -> str:
        space, operation, kind = parts
        target, place, value = operands
        if space != "global" or operation not in ("min", "add"):
            raise ValueError("another atomic operation")
        call = f"atomic_{operation}<{C[kind]}>({self._address(place)}, {self._value(value, kind)})"
        return self._put(target, kind, call)

    def _shfl(self, parts: list[str], operands: list[str]) -> str:
        target, *words = operands
        if parts != ["sync", "down", "b32"] or len(words) != 4:
            raise ValueError("another exchange")
        exchanged = f"exchange({', '.join(self._value(word, 'u32') for word in words)})"
        return self._put(target.partition("|")[0], "b32", exchanged)

    # Moves and choices -------------------------------------------------------------------------

    def _mov(self, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        target, value = operands
        if value[0] == "{":
            low, high = (self._value(half.strip(), "u32") for half in value[1:-1].split(","))
            return self._put(target, kind, f"(uint64_t){high} << 32 | {low}")
        if target[0] == "{":
            low, high = (half.strip() for half in target[1:-1].split(","))
            word = self._value(value, kind)
            return "".join(
                self._put(half, "u32", f"{word} >> {shift}")
                for half, shift in ((low, 0), (high, 32))
                if half != "_"
            )
        return self._put(target, kind, self._value(value, kind))

    def _cvta(self, parts: list[str], operands: list[str]) -> str:
        if parts[:-1] != ["to", "global"]:
            raise ValueError("another space")
        return self._mov(parts[-1:], operands)

    def _selp(self, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        target, one, other, which = operands
        values = f"{self._value(one, kind)} : {self._value(other, kind)}"
        return self._put(target, kind, f"{self._value(which, 'pred')} ? {values}")

    def _setp(self, parts: list[str], operands: list[str]) -> str:
        relation, kind = parts
        target = operands[0]
        x, y = (self._value(operand, kind) for operand in operands[1:])
        if not _is_float(kind):
            test = f"{x} {WHOLE[relation]} {y}"
        elif relation in ("nan", "num"):
            test = f"{'!' if relation == 'num' else ''}(is_nan({x}) || is_nan({y}))"
        elif relation in OPPOSITE:
            test = f"!({x} {ORDERED[OPPOSITE[relation]]} {y})"
        else:
            test = f"{x} {ORDERED[relation]} {y}"
        return self._put(target, "pred", test)

    def _cvt(self, parts: list[str], operands: list[str]) -> str:
        *rounding, to, source = parts
        target, operand = operands
        value = self._value(operand, source)
        if _is_float(to) and _is_float(source):
            exact = (to, source) == ("f64", "f32")
            if rounding == ["rni"] and to == source:
                value = f"std::rint({value})"
            elif rounding != ([] if exact else ["rn"]) or to == source:
                raise ValueError("another rounding")
        elif _is_float(to):
            if rounding != ["rn"]:
                raise ValueError("another rounding")
        elif _is_float(source):
            if rounding != ["rzi"]:
                raise ValueError("another rounding")
            value = f"towards_zero<{C[to]}>({value})"
        elif rounding:
            raise ValueError("another rounding")
        return self._put(target, to, value)

    # Arithmetic --------------------------------------------------------------------------------

    def _add(self, parts: list[str], operands: list[str]) -> str:
        return self._binary("add", parts, operands)

    def _sub(self, parts: list[str], operands: list[str]) -> str:
        return self._binary("sub", parts, operands)

    def _binary(self, name: str, parts: list[str], operands: list[str]) -> str:
        *rounding, kind = parts
        if rounding not in ([], ["rn"]) or (rounding and not _is_float(kind)):
            raise ValueError("another rounding")
        target, *both = operands
        unsigned = kind if _is_float(kind) else f"u{kind[1:]}"  # which wraps around
        x, y = (self._value(operand, unsigned) for operand in both)
        return self._put(target, kind, f"{x} {OPERATORS[name]} {y}")

    def _mul(self, parts: list[str], operands: list[str]) -> str:
        if parts[0] not in ("lo", "wide", "hi"):
            return self._binary("mul", parts, operands)
        which, kind = parts
        if which == "lo":
            return self._binary("mul", [kind], operands)
        target, *both = operands
        if which == "wide":
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            x, y = (f"({C[wide]}){self._value(operand, kind)}" for operand in both)
            return self._put(target, wide, f"{x} * {y}")
        x, y = (f"(__int128){self._value(operand, kind)}" for operand in both)
        return self._put(target, kind, f"({x} * {y}) >> {kind[1:]}")

    def _mad(self, parts: list[str], operands: list[str]) -> str:
        which, kind = parts
        target, *both, more = operands
        if which == "wide":
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            x, y = (f"({C[wide]}){self._value(operand, kind)}" for operand in both)
            return self._put(target, wide, f"{x} * {y} + {self._value(more, wide)}")
        if which != "lo" or _is_float(kind):
            raise ValueError("fused")
        x, y, z = (self._value(operand, f"u{kind[1:]}") for operand in operands[1:])
        return self._put(target, kind, f"{x} * {y} + {z}")

    def _div(self, parts: list[str], operands: list[str]) -> str:
        if parts[0] == "rn":
            return self._binary("div", parts, operands)
        return self._whole("quotient", parts, operands)

    def _rem(self, parts: list[str], operands: list[str]) -> str:
        return self._whole("remainder", parts, operands)

    def _min(self, parts: list[str], operands: list[str]) -> str:
        return self._whole("std::min", parts, operands)

    def _max(self, parts: list[str], operands: list[str]) -> str:
        return self._whole("std::max", parts, operands)

    def _whole(self, function: str, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        if _is_float(kind):
            raise ValueError("of whole numbers alone")
        target, *both = operands
        x, y = (self._value(operand, kind) for operand in both)
        return self._put(target, kind, f"{function}<{C[kind]}>({x}, {y})")

    def _sqrt(self, parts: list[str], operands: list[str]) -> str:
        rounding, kind = parts
        if rounding != "rn":
            raise ValueError("another rounding")
        return self._put(operands[0], kind, f"std::sqrt({self._value(operands[1], kind)})")

    def _abs(self, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        value = self._value(operands[1], kind)
        if _is_float(kind):
            return self._put(operands[0], kind, f"std::fabs({value})")
        unsigned = self._value(operands[1], f"u{kind[1:]}")
        return self._put(operands[0], kind, f"{value} < 0 ? 0 - {unsigned} : {unsigned}")

    def _neg(self, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        if _is_float(kind):
            return self._put(operands[0], kind, f"-{self._value(operands[1], kind)}")
        return self._put(operands[0], kind, f"0 - {self._value(operands[1], f'u{kind[1:]}')}")

    def _not(self, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        sign = "!" if kind == "pred" else "~"
        return self._put(operands[0], kind, f"{sign}{self._value(operands[1], kind)}")

    def _and(self, parts: list[str], operands: list[str]) -> str:
        return self._logic("and", parts, operands)

    def _or(self, parts: list[str], operands: list[str]) -> str:
        return self._logic("or", parts, operands)

    def _xor(self, parts: list[str], operands: list[str]) -> str:
        return self._logic("xor", parts, operands)

    def _logic(self, name: str, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        target, *both = operands
        x, y = (self._value(operand, kind) for operand in both)
        return self._put(target, kind, f"{x} {OPERATORS[name]} {y}")

    def _shl(self, parts: list[str], operands: list[str]) -> str:
        return self._shift("shifted_left", parts, operands)

    def _shr(self, parts: list[str], operands: list[str]) -> str:
        return self._shift("shifted_right", parts, operands)

    def _shift(self, function: str, parts: list[str], operands: list[str]) -> str:
        (kind,) = parts
        target, value, distance = operands
        call = f"{function}<{C[kind]}>({self._value(value, kind)}, {self._value(distance, 'u32')})"
        return self._put(target, kind, call)
