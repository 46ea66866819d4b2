"""The costs of a step, the plan that fits into a byte limit, and the tensors kept from the forward to the backward."""
