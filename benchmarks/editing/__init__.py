"""Whether edits of the tiny world's pictures succeed, and whether their effects are the true ones."""
