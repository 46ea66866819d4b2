"""Results as values that save and load; nothing here draws."""
