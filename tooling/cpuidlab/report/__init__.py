"""Show the verdicts of many tests: matrix, page, Markdown, terminal, other formats."""
