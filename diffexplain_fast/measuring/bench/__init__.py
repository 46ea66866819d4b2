"""One optimisation iteration beside what people do today: time, memory, and whether the gradient is the same."""
