"""What every command needs: whole files, workers, console, bit comparison."""
