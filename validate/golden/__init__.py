"""Golden cases: inputs, the outputs that every implementation must give for them, and why.

`case` reads them, `recipes` makes the inputs that are too large to store, `execute` runs one on a
backend, `write` and `check` are the commands. The files lie in `data/golden/`, whose README says
how to use them from any language.
"""
