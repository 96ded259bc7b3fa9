"""Lets `python -m tonearm` stand for the `tonearm` program."""

from tonearm.cli.app import main

main()
