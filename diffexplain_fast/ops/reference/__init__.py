"""The raw functions in eager PyTorch, without tricks, for every device and every dtype, also float64."""
