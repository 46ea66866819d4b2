"""The raw functions in eager PyTorch, without tricks: every device, every dtype, float64 included."""
