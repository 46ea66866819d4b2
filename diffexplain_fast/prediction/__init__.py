"""Predicted time of an iteration on a card that is not here: launches traced from the engine, rates from a table."""
