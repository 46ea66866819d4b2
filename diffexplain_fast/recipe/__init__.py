"""How the models of the tiny world were made: one command rebuilds every file, and picks up where it was stopped."""
