"""Make `python -m tonearm` run the `tonearm` program."""

from tonearm.cli.app import main

main()
