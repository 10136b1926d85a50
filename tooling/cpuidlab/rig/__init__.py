"""Boot a host with its guest, save the pair, start fresh copies of it."""
