"""Does a backend keep the contract? Running the cases, judging, reporting."""
