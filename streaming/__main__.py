"""`python -m streaming` is the `wardwatch` command."""

from streaming.cli import main

main()
