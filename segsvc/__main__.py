"""`python -m segsvc` is `segsvc`."""

from segsvc.cli.main import main

if __name__ == "__main__":
    main()
