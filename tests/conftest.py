"""Settings that all tests share."""

from hypothesis import settings

# The same examples in every run, so that a red test is red for everybody; other ones are tried by
# `pytest --hypothesis-profile=default`. A time limit would measure the machine.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
