"""`python -m zkv`: the `zkv` command."""

from zkv.ctl.main import main

main()
