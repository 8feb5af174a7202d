"""`python -m bckd`, and `torchrun -m bckd` for many GPUs: the command `bckd`."""

from bckd.commands.main import main

main()
