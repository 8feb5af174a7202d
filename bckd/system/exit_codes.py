"""How a command ends, for scripts: its exit code."""

from __future__ import annotations

DONE = 0
PARTLY = 1  # done, but for what the command named on its way, such as images that are no images
REFUSED = 2  # nothing was done, or no more than is written; one sentence says why
SIGNALLED = 128  # and the number of the signal that ended it: 130 by Ctrl-C, 143 by SIGTERM
