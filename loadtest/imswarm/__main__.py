"""`imswarm`, and `python -m imswarm`.

A client process has the module that its parent was started with imported, too: so this one imports nothing by itself.
What the commands need is 30 MB that a client process does not.
"""


def main() -> None:
    from imswarm.cli import main as commands  # noqa: PLC0415 - see above

    commands()


if __name__ == "__main__":
    main()
