"""Where an iteration's time and memory go, and the same beside other implementations."""
