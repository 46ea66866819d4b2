"""How an explanation is found: one file per published method, and the parts they share."""
