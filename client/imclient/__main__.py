"""`python -m imclient`."""

from imclient.cli import main

main(prog_name="imclient")
