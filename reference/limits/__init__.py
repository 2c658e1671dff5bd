"""What a given rate or distortion allows at best, and what a result has spent."""
