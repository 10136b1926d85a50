"""Do something to a guest, look at everything, and return an observation."""
