"""One file for each verb of `python -m stages`: it reads what stages and runs say of themselves."""
