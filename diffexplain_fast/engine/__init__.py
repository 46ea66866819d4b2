"""Differentiating through a diffusion sampler: schedules as tables, the reference loop, the sampler that runs it."""
