"""Compare an observation with what the kernel promises, and return a verdict."""
