"""Long runs of any method: progress, units of work stored once, checkpoints."""
