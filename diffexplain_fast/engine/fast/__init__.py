"""The fast engine: the user's frozen UNet and VAE decoder, run by ops that keep little for the backward."""
