"""`python -m bckd`, and `torchrun -m bckd` for many GPUs: the command `bckd`."""

from bckd.command_line import main

main()
