"""For all tests."""

import signal

# A shell without job control starts what it puts into the background with SIGINT ignored, and every child inherits
# that: the programs under test could not be interrupted. A handler, unlike "ignore", ends at exec.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
