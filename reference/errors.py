"""What can go wrong, as types: one name for each kind of refusal.

Every message is one line that names the tensor, the offending value and the remedy, so that a
command line may print it as it stands. A failed input never yields a partial result.
"""

from __future__ import annotations


class WaterlevelError(Exception):
    """Base of all refusals of this package; its text is one line made for the user."""


class BadInput(WaterlevelError, ValueError):
    """An input that the algorithm is not defined for: wrong shape, NaN, a negative diagonal, …"""


class RateNotMet(UserWarning):
    """The search for a spacing ended at another rate than was asked for."""


class CodeOverflow(WaterlevelError, OverflowError):
    """A code that does not fit in int32, or that comes from a value that is not finite.

    Attributes:
        row, column: where, counted from 0 in the matrix that was handed to the operation.
        value: the value that should have become a code, before the conversion.
    """

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(
            f"codes[{row}, {column}] would be {value:g}, which does not fit in int32; "
            "use a larger spacing (a lower rate), or scale the weight"
        )
        self.row = row
        self.column = column
        self.value = value

    def __reduce__(self) -> tuple[type[CodeOverflow], tuple[int, int, float]]:
        return type(self), (self.row, self.column, self.value)


class NotPositiveDefinite(WaterlevelError, ArithmeticError):
    """A Cholesky factorisation met a pivot that is not positive.

    Attributes:
        pivot: index of the offending column, in the numbering of the matrix that the user gave.
        value: what stood under the square root.
        remedy: what would help, as the end of the message.
    """

    def __init__(
        self, pivot: int, value: float, matrix: str = "covariance", remedy: str = ""
    ) -> None:
        message = f"{matrix} is not positive definite: pivot {pivot} is {value:g}"
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.pivot = pivot
        self.value = value
        self.matrix = matrix
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[NotPositiveDefinite], tuple[int, float, str, str]]:
        return type(self), (self.pivot, self.value, self.matrix, self.remedy)
