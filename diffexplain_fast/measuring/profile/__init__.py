"""Where the time and the memory of one optimisation iteration go."""
