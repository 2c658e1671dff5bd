"""The exact path uses nothing but the arithmetic whose every output bit is fixed.

Each module of `waterlevel.reference` is parsed and every name in it is held against lists of what
is permitted: a new NumPy function, a new import or a new module is refused until somebody has
written it down here with the reason why its bits are the same everywhere. What a syntax tree cannot
show, whether `a + b` adds in the order of the contract, is the business of the other tests.
"""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import numpy as np
import pytest

import waterlevel.reference

REFERENCE = Path(waterlevel.reference.__file__).parent


def names(text: str) -> set[str]:
    return set(text.split())


# Modules of reference/ that are not exact, with the reason; every other one is, new ones included.
NOT_EXACT = {
    "front": "what `import waterlevel` offers, by name; it computes nothing",
    "bases.haar": "draws an orthogonal matrix with LAPACK: an input of the algorithms",
    "minimal": "a page for reading, on BLAS and LAPACK; its docstring says where codes may differ",
    "limits.gaussian_limit": "eigenvalues by LAPACK, and the limit that follows from them",
    **dict.fromkeys(
        names(
            "theory theory.absmax theory.high_rate theory.products theory.low_rate "
            "theory.rotated theory.scalar"
        ),
        "closed-form predictions by SciPy and LAPACK, compared within a stated tolerance",
    ),
}


# The decoder calls a BLAS, but only for sums that are exact in any order: its own tests watch every
# product, and give its sums random orders.
DECODER = names(
    "attention configuration decoder exponential feed_forward integers library likelihood "
    "normalization passes rotary sequence_moments"
)
NOT_EXACT |= dict.fromkeys(
    ["decoder", *(f"decoder.{name}" for name in DECODER)],
    "exact in any order: tests/reference/decoder",
)

# So does this folder; `arrays` says which calls of a library are safe.
ORDER_FREE = names("arrays cancellation factor finite lattice slices")
NOT_EXACT |= dict.fromkeys(
    ["order_free", *(f"order_free.{name}" for name in ORDER_FREE)],
    "exact in any order: tests/reference/order_free",
)

# What may be taken from NumPy, by the reason why its bits are fixed.
PERMITTED_NUMPY = {
    "types and constants": names(
        "bool_ dtype finfo float32 float64 floating generic iinfo inf int8 int32 int64 integer "
        "intp issubdtype nan ndarray newaxis number uint8 uint32 uint64"
    ),
    "creation: nothing is computed, or small integers are": names(
        "arange array asarray ascontiguousarray empty empty_like eye full full_like identity ones "
        "ones_like zeros zeros_like"
    ),
    "moves: gather, transpose, flip, join": names(
        "append broadcast_to column_stack concatenate copyto diag diagonal expand_dims "
        "fill_diagonal flip hstack ix_ moveaxis pad put_along_axis ravel repeat reshape roll "
        "split squeeze stack swapaxes take take_along_axis tile transpose tril tril_indices triu "
        "triu_indices vstack"
    ),
    "+ - * / sqrt rint: one rounding by IEEE 754": names(
        "add subtract multiply divide negative sqrt rint"
    ),
    "abs, min, max, sign: no rounding": names(
        "abs absolute amax amin clip copysign fabs max maximum min minimum sign signbit"
    ),
    "powers of two and neighbours: shifts of the exponent": names("frexp ldexp nextafter"),
    "compare and select": names(
        "all any argmax argmin array_equal count_nonzero equal flatnonzero greater greater_equal "
        "isfinite isinf isnan less less_equal lexsort logical_and logical_not logical_or nonzero "
        "not_equal searchsorted select sort argsort where"
    ),
    "integers": names("bitwise_and bitwise_or bitwise_xor left_shift right_shift"),
    "state of the floating-point unit: silences a warning, changes no value": names("errstate"),
    "raw integers of a counter-based generator": names("random.Philox"),
}

PERMITTED_MODULES: dict[str, set[str] | None] = {  # None: everything in it
    "numpy": set().union(*PERMITTED_NUMPY.values()),
    "numpy.typing": names("ArrayLike DTypeLike NDArray"),
    "__future__": None,
    "collections": names("Counter OrderedDict defaultdict deque namedtuple"),
    "collections.abc": None,
    "contextlib": None,
    "dataclasses": None,
    "enum": None,
    "fractions": None,  # rational numbers, no rounding at all
    "functools": names("cache cached_property lru_cache partial"),  # reduce would be a sum
    "heapq": None,
    "itertools": names(
        "chain combinations count groupby islice pairwise product repeat zip_longest"
    ),
    "math": names("ceil copysign floor frexp inf isfinite isinf isnan isqrt ldexp nan sqrt"),
    "types": None,
    "typing": None,
}

PERMITTED_BUILTINS = names(
    "ArithmeticError AssertionError AttributeError Ellipsis False IndexError KeyError "
    "NotImplemented NotImplementedError None OverflowError RuntimeError StopIteration True "
    "TypeError ValueError ZeroDivisionError Exception __name__ _ abs all any bool bytes callable "
    "classmethod dict divmod enumerate filter float format frozenset hasattr int isinstance "
    "issubclass iter len list map max memoryview min next object property range repr reversed "
    "set slice sorted staticmethod str super tuple type zip"
)

# An attribute is looked at when an array or a ufunc has one of that name: `x.sum`, `np.add.reduce`.
ARRAY_ATTRIBUTES = set(dir(np.ndarray)) | set(dir(np.ufunc))
PERMITTED_ATTRIBUTES = names(
    "T all any argmax argmin argsort astype base byteswap clip copy diagonal dtype fill flags flat "
    "flatten item itemsize max min nbytes ndim nonzero ravel repeat reshape searchsorted setflags "
    "shape size sort squeeze strides swapaxes take tobytes tolist transpose view "
    "__class__ __doc__ __getitem__ __init__ __setattr__"
)

PERMITTED_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div),  # one rounding each
    *(ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift),  # integers
    *(ast.BitAnd, ast.BitOr, ast.BitXor),
)  # not here: ** is the library's pow, @ is BLAS

DECIMAL = "50 digits by software, rounded once: the same on every machine"

# What one module may use beyond the lists: the name as the test prints it, and why it is exact.
EXTRAS: dict[str, dict[str, str]] = {
    "theory.generic_product": {
        f"from .{module} import {name}": "asked for when the result stands; nothing exact uses it"
        for module, functions in {
            "absmax": "blockwise_distortion",
            "products": "product_distortion product_limit product_limit_rate",
        }.items()
        for name in names(functions)
    },
    "bases.hadamard": {"numpy.kron": "products of the integers -1, 0 and 1"},
    "coding.histogram": {"numpy.cumsum": "of int64 counts, modulo 2**64"},
    "arithmetic.logarithm": {
        f"from decimal import {name}": DECIMAL
        for name in names(
            "Context Decimal DivisionByZero InvalidOperation Overflow ROUND_HALF_EVEN localcontext"
        )
    },
    "calibration.moments": {
        ".accumulate": "the operation of the contract, a chain; not the ufunc's method"
    },
    "__init__": {
        "from importlib import import_module": "hands on names when they are asked for",
        "getattr": "the same",
    },
    "errors": {"UserWarning": "a class of Python's"},
    "bases.named": {"from .haar import haar": "an input that the user asks for by name"},
    "operations.named": {
        "from importlib import import_module": "the backends know this package, not the reverse",
        "__package__": "the same",
    },
    "methods.one_scale": {
        ".accumulate": "the operation of the contract, a chain; not the ufunc's method"
    },
    "methods.waterfilling_quantizer": {
        "from ..limits.gaussian_limit import eigenbasis": "where no basis is given; then not exact"
    },
    "operations.layer": {"getattr": "reads the fields of its own dataclass by their names"},
    "methods.results": {
        f"from ..limits.gaussian_limit import {name}": "asked for when the result stands"
        for name in names("covariance_eigenvalues rate_limit")
    }
    | dict.fromkeys(
        (
            "import sys",
            "import warnings",
            "from importlib import import_module",
            "from os import PathLike",
            "__package__",
            "warnings.warn",
            "getattr",
            "sys._getframe",
        ),
        "a result that is shown, saved, or warned of; it stands by then",
    ),
    "methods.rate_search": {"vars": "the parameters of a dataclass, for the record"},
    "coding.rates": {"from decimal import Decimal": DECIMAL},
}


class Walker(ast.NodeVisitor):
    """Collects (line, name) for everything in a module that no list permits.

    `package` is the folder of the module below reference/, as "methods"; "" for reference/ itself.
    """

    def __init__(self, exact_modules: set[str], package: str) -> None:
        self.exact_modules = exact_modules
        self.package = package.split(".") if package else []
        self.modules: dict[str, str] = {}  # local name -> module it stands for
        self.found: list[tuple[int, str]] = []

    def refuse(self, node: ast.AST, name: str) -> None:
        self.found.append((getattr(node, "lineno", 0), name))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name not in PERMITTED_MODULES or ("." in alias.name and not alias.asname):
                self.refuse(node, f"import {alias.name}")
            self.modules[alias.asname or alias.name.partition(".")[0]] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        for alias in node.names:
            if node.level:
                above = len(self.package) + 1 - node.level
                parts = [*self.package[: max(above, 0)], *filter(None, module.split("."))]
                target, member = ".".join(parts), ".".join([*parts, alias.name])
                exact = {target, member} & self.exact_modules and member not in NOT_EXACT
                permitted = above >= 0 and exact and alias.name != "*"
            else:
                of_module = PERMITTED_MODULES.get(module, set())
                permitted = alias.name != "*" and (of_module is None or alias.name in of_module)
            if not permitted:
                self.refuse(node, f"from {'.' * node.level}{module} import {alias.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and base.id in self.modules:
            module = self.modules[base.id]
            permitted = PERMITTED_MODULES.get(module, set())
            taken = next(
                (i for i in range(1, len(chain) + 1) if _permits(permitted, chain[:i])), None
            )
            if taken is None:
                self.refuse(node, ".".join([module, *chain]))
            else:
                self.check_attributes(node, chain[taken:])
        else:
            self.check_attributes(node, chain)
            self.visit(base)

    def check_attributes(self, node: ast.AST, attributes: list[str]) -> None:
        for name in attributes:
            dunder = name.startswith("__")
            if (name in ARRAY_ATTRIBUTES or dunder) and name not in PERMITTED_ATTRIBUTES:
                self.refuse(node, f".{name}")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.modules:  # as a value it could be asked for anything
            self.refuse(node, f"{self.modules[node.id]} as a value")
        elif hasattr(builtins, node.id) and node.id not in PERMITTED_BUILTINS:
            self.refuse(node, node.id)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr == "argsort":
            kinds = [ast.unparse(k.value) for k in node.keywords if k.arg == "kind"]
            if kinds != ["'stable'"]:  # else the order of equals depends on the processor
                self.refuse(node, "argsort without kind='stable'")
        if isinstance(called, ast.Name) and called.id == "getattr" and _names_attribute(node):
            self.check_attributes(node, [ast.literal_eval(node.args[1])])
            for argument in node.args:
                self.visit(argument)
        else:
            self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp | ast.AugAssign) -> None:
        if not isinstance(node.op, PERMITTED_OPERATORS) and not _is_integer_constant(node):
            self.refuse(node, {ast.MatMult: "@", ast.Pow: "**"}[type(node.op)])
        self.generic_visit(node)

    visit_AugAssign = visit_BinOp


def _names_attribute(call: ast.Call) -> bool:
    """Such as getattr(x, "ndim", None), which is x.ndim."""
    name = call.args[1] if len(call.args) > 1 else None
    return isinstance(name, ast.Constant) and isinstance(name.value, str)


def _is_integer_constant(node: ast.BinOp | ast.AugAssign) -> bool:
    """Such as 2**15: no float is touched."""
    parts = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
    return bool(parts) and all(isinstance(p, ast.Constant) and type(p.value) is int for p in parts)


def _permits(permitted: set[str] | None, chain: list[str]) -> bool:
    return permitted is None or ".".join(chain) in permitted


def refused(source: str, exact_modules: set[str], package: str = "") -> list[tuple[int, str]]:
    walker = Walker(exact_modules, package)
    walker.visit(ast.parse(source))
    return walker.found


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(REFERENCE).with_suffix("").parts)
    return name if name == "__init__" else name.removesuffix(".__init__")


def package_of(name: str) -> str:
    path = MODULES[name]
    return ".".join(path.parent.relative_to(REFERENCE).parts)


MODULES = {module_name(path): path for path in sorted(REFERENCE.rglob("*.py"))}
EXACT = {name: path for name, path in MODULES.items() if name not in NOT_EXACT}


@pytest.mark.parametrize("name", EXACT)
def test_module_uses_only_permitted_arithmetic(name: str):
    found = refused(EXACT[name].read_text("utf-8"), set(EXACT), package_of(name))
    extras = EXTRAS.get(name, {})
    lines = [f"reference/{name}.py:{line}: {what}" for line, what in found if what not in extras]
    assert not lines, "not on the permitted list:\n" + "\n".join(lines)
    unused = set(extras) - {what for _, what in found}
    assert not unused, f"extras that {name} no longer needs: {unused}"


def test_lists_name_modules_that_exist():
    assert set(NOT_EXACT) <= set(MODULES)
    assert set(EXTRAS) <= set(EXACT)


def test_the_core_is_walked():
    core = "arithmetic.sums arithmetic.products arithmetic.triangular operations.sic"
    assert {"errors", "methods.watersic", "methods.gptq", *names(core)} <= set(EXACT)


PLANTED = [
    ("import numpy as np\nnp.dot(a, b)", "numpy.dot"),
    ("import numpy as np\nnp.matmul(a, b)", "numpy.matmul"),
    ("import numpy as np\nnp.sum(a)", "numpy.sum"),
    ("import numpy as np\nnp.einsum('ij->i', a)", "numpy.einsum"),
    ("import numpy as np\nnp.log2(a)", "numpy.log2"),
    ("import numpy as np\nnp.linalg.cholesky(a)", "numpy.linalg.cholesky"),
    ("import numpy as np\nnp.random.default_rng(0)", "numpy.random.default_rng"),
    ("import numpy as np\nnp.__dict__['dot']", "numpy.__dict__"),
    ("import numpy\nnumpy.dot(a, b)", "numpy.dot"),
    ("import numpy as anything\nf = anything.dot", "numpy.dot"),
    ("import numpy as np\nnp.add.reduce(a)", ".reduce"),
    ("import numpy as np\nnp.multiply.accumulate(a)", ".accumulate"),
    ("import numpy as np\nxp = np", "numpy as a value"),
    ("import numpy as np\ngetattr(np, 'dot')(a, b)", "numpy as a value"),
    ("getattr(a, 'dot')(b)", ".dot"),
    ("getattr(a, name)(b)", "getattr"),
    ("f = getattr", "getattr"),
    ("__import__('numpy').dot(a, b)", "__import__"),
    ("eval('a @ b')", "eval"),
    ("import numpy.linalg", "import numpy.linalg"),
    ("import numpy.linalg as la\nla.norm(a)", "numpy.linalg.norm"),
    ("import scipy.linalg", "import scipy.linalg"),
    ("import numba", "import numba"),
    ("import decimal", "import decimal"),
    ("import operator\noperator.matmul(a, b)", "import operator"),
    ("from numpy import dot", "from numpy import dot"),
    ("from numpy import sqrt, dot as sqrt2", "from numpy import dot"),
    ("from numpy import *", "from numpy import *"),
    ("from numpy.linalg import norm", "from numpy.linalg import norm"),
    ("from scipy import linalg", "from scipy import linalg"),
    ("from functools import reduce", "from functools import reduce"),
    ("from itertools import accumulate", "from itertools import accumulate"),
    ("def f():\n    from numpy import dot", "from numpy import dot"),
    ("from ..limits import gaussian_limit", "from ..limits import gaussian_limit"),
    ("from ..limits.gaussian_limit import gap", "from ..limits.gaussian_limit import gap"),
    ("from ..arithmetic.sums import *", "from ..arithmetic.sums import *"),
    ("from ... import backends", "from ... import backends"),
    ("from .sums import tree_sum", "from .sums import tree_sum"),
    ("from waterlevel.reference import sums", "from waterlevel.reference import sums"),
    ("a @ b", "@"),
    ("a @= b", "@"),
    ("a.__matmul__(b)", ".__matmul__"),
    ("a.__dict__", ".__dict__"),
    ("x ** 0.5", "**"),
    ("x **= 2", "**"),
    ("2.0**15", "**"),
    ("2**bits", "**"),
    ("10**-6", "**"),
    ("pow(x, 2)", "pow"),
    ("round(x, 2)", "round"),
    ("sum(x for x in a)", "sum"),
    ("f = sum", "sum"),
    ("a.sum()", ".sum"),
    ("f(a)[0].mean(axis=1)", ".mean"),
    ("a.T.dot(b)", ".dot"),
    ("a.prod()", ".prod"),
    ("a.std()", ".std"),
    ("a.var()", ".var"),
    ("a.cumsum()", ".cumsum"),
    ("a.trace()", ".trace"),
    ("a.round()", ".round"),
    ("f = a.sum", ".sum"),
    ("import math\nmath.log2(x)", "math.log2"),
    ("import math\nmath.fsum(a)", "math.fsum"),
    ("import math\nmath.fma(a, b, c)", "math.fma"),
    ("import math\nmath.pow(a, b)", "math.pow"),
    ("from math import exp", "from math import exp"),
    ("a.argsort()", "argsort without kind='stable'"),
    ("import numpy as np\nnp.argsort(a, kind='quicksort')", "argsort without kind='stable'"),
]


@pytest.mark.parametrize(("source", "name"), PLANTED)
def test_a_planted_violation_is_refused(source: str, name: str):
    assert name in [what for _, what in refused(source, {"limits", "arithmetic.sums"}, "methods")]


def test_a_violation_is_found_at_its_line():
    assert refused("x = 1\ny = x\nz = x @ y\n", set()) == [(3, "@")]


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.sqrt(a) + np.rint(b / c) - d * e",
        "import numpy as np\nnp.random.Philox(key=1).random_raw(4)",
        "import numpy as np\ndef f(a: np.ndarray) -> np.floating: return a.astype(np.float32)",
        "from numpy.typing import NDArray",
        "from ..arithmetic.sums import tree_sum\ntree_sum(a)",
        "from ..arithmetic import sums\nsums.tree_sum(a)",
        "import math\nmath.ldexp(1.0, 3)",
        "import heapq\nheapq.heappush(a, 1)",
        "import numpy as np\nnp.argsort(-a, kind='stable')",
        "operations.matmul(a.T, b)",
        "total += x * y",
        "max(a, b) // 2 % 3 << 4",
        "TILE = 2**15",
        "getattr(a, 'ndim', None)",
    ],
)
def test_the_permitted_arithmetic_passes(source: str):
    assert refused(source, {"arithmetic.sums"}, "methods") == []
