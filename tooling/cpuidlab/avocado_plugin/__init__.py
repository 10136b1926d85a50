"""Let Avocado run the tests: base test, options, variants, scheduling, results."""
