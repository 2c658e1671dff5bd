"""How does somebody else's kernel become a backend, and how is it validated?

A backend is an object with the operations of `waterlevel.reference.operations`; that page says what
each must give, to the bit. Nobody has to write all of them at once: whatever is not written yet can
be inherited from the oracle, and `waterlevel validate` judges the rest.

This module is a complete foreign backend with one operation of its own, a matrix product. It works
on whole matrices, one k after the other, so every element keeps its chain c = c + a_ik·b_kj:

>>> import numpy as np
>>> from ..probes.questions import inquiries
>>> def order_of_matmul(backend):
...     (inquiry,) = (i for i in inquiries(backend) if (i.probe, i.operation, i.dtype)
...                   == ("order of summation", "matmul", "float64"))
...     return inquiry.ask().message
>>> order_of_matmul(Backend())
'matmul float64: order of summation: sequential, k = 0, 1, 2, …'

The tempting way to write it is faster and wrong: adding halves keeps every term and changes last
bits, here and there a code, and with it everything that comes after.

>>> order_of_matmul(Tempting())     # doctest: +NORMALIZE_WHITESPACE
'matmul float64: order of summation: pairwise;
the contract asks for: sequential, k = 0, 1, 2, …'

**To validate it** by name, a module that can be imported is enough:

    waterlevel validate --backend waterlevel.validate.conformance.example_backend:Backend
    waterlevel validate --cases 'matmul/*' \
        --backend waterlevel.validate.conformance.example_backend:Tempting
    pytest --pyargs waterlevel.validate \
        --waterlevel-backend waterlevel.validate.conformance.example_backend:Backend

The attribute may be an instance, a class or a function without arguments. The second command says
which outputs differ, where, by how many units in the last place, and that pairwise sums reproduce
every bit of them.

**To register it**, so that `waterlevel backends`, `quantize --backend mine` and a plain `waterlevel
validate` find it, name it in the `pyproject.toml` of your own package:

    [project.entry-points."waterlevel.backends"]
    mine = "mypackage.kernels:Backend"

A backend that cannot run on this machine raises `waterlevel.backends.Unusable` with one line that
says why and what would help. A `matrix` may be anything that your operations understand, an array
on a device for instance; algorithms never look inside.

**Without an order of sums.** A kernel that calls a BLAS or uses tensor cores can be tried on the
order-free contract: give the backend a method with the name of a golden function, such as
`order_free_lattice(weight, factor, spacing, …)`, that takes inputs and parameters by their names
and returns a dict of outputs. `reference/order_free/FOR_OTHER_LANGUAGES.md` says which integers.

**Without Python**: `waterlevel export DIR` writes inputs and parameters as plain files, your
program writes its outputs beside them, and `waterlevel validate --outputs DIR` compares. What the
files hold is said in `waterlevel.validate.cli.export`.

**If not all bits can be had**, because a kernel runs on tensor cores or sums as a library does, the
report still tells for each algorithm whether the codes are right, or else rate and distortion:
`waterlevel.validate.conformance.levels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.operations.numpy_operations import NumpyOperations


class Backend(NumpyOperations):
    """The oracle with a matrix product of its own; the same bits."""

    name = "example"

    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        """A B, every element by its chain."""
        product = np.zeros((len(left), right.shape[1]), left.dtype)
        with np.errstate(all="ignore"):
            for k in range(len(right)):
                product += left[:, k, None] * right[k]
        return product


class Tempting(NumpyOperations):
    """The oracle with a matrix product that adds neighbours first; other bits."""

    name = "tempting"

    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        """A B, summed pairwise."""
        with np.errstate(all="ignore"):
            terms = left.T[:, :, None] * right[:, None, :]
            while len(terms) > 1:
                even = len(terms) // 2 * 2
                terms = np.concatenate([terms[:even:2] + terms[1:even:2], terms[even:]])
        return terms.sum(axis=0)
