"""What `waterlevel bench` times, and what it is timed against."""
