"""`python -m suffice` is the `suffice` command."""

from suffice.cli.main import main

if __name__ == "__main__":
    main()
