"""Published packages as subjects: each runs in a process of its own, and one page tells of all."""
