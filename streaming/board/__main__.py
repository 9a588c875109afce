"""`python -m streaming.board`: the board as a process of its own."""

from streaming.commands.board import command

command()
