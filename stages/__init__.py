"""One module per key of dvc.yaml: each defines `STAGE` and only names what is read, called and written."""
