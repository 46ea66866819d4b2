"""Pictures from prompts, and what a classifier says about them."""
