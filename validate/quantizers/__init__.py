"""Whole quantisers as subjects: what is asked of them, how far they come, and why no further."""
