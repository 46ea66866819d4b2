"""Adapters of other libraries' models: the only place that knows model-specific names."""
