"""How does a backend compute? Questions that are asked from outside."""
