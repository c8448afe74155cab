"""Whether a data set folder is what it says: files, schema, keys, and the invariants of `training` rows."""

from vcrd.validate.findings import Fault, Findings
from vcrd.validate.folder import validate

__all__ = ["Fault", "Findings", "validate"]
