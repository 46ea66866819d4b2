"""Pictures from prompts, and the answers of a classifier to them."""
