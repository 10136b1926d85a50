"""Serve every other room: errors, paths, processes, deadlines, the cache of made things."""
