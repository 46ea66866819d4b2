"""What a step costs, which plan fits into a byte limit, and what is kept from the forward to the backward."""
