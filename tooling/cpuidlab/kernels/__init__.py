"""Turn a host spec into a kernel that can boot."""
