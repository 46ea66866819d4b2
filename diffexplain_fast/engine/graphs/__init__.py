"""CUDA graphs of any function of tensors: how calls are recorded and replayed, and when."""
