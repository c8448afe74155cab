"""`python -m vcrd` is `vcrd`."""

from vcrd.cli import main

if __name__ == "__main__":
    main()
