"""The user's frozen UNet and VAE as functions over the same weights, with hand-written backward passes."""
