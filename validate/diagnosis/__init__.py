"""From a difference to its cause: the first divergence, and named deviations."""
