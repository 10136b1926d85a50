"""The exit codes of every command, in the words of `git bisect run`: good, bad, skip, and end the bisection."""

OK = 0
BROKEN = 1  # a promise is broken, or a matrix got worse
USAGE = 2
UNTESTED = 125  # nothing can be said of the kernel
INTERRUPTED = 130
TERMINATED = 143
