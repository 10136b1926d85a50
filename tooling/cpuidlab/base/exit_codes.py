"""Name the exit codes of every command, as `git bisect run` reads them: good, bad, skip, and end the bisection."""

OK = 0
BROKEN = 1  # a promise is broken, or a matrix got worse
USAGE = 2
UNTESTED = 125  # nothing can be said of the kernel
INTERRUPTED = 130
TERMINATED = 143
