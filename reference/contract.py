"""Which arithmetic is this?

One number names the bits that `operations` and the algorithms on it promise. It changes whenever
the same input is to give another code, scale or value, and never for anything else: results,
reports and stored expectations with the same number can be compared bit by bit.
"""

CONTRACT_VERSION = "2"
