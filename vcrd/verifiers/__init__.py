"""Rule verifiers: each says valid, invalid or abstains, with a reason."""
