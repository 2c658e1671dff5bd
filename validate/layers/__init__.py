"""Layer files, and what is done with them: quantise, study, write as a bitstream."""
