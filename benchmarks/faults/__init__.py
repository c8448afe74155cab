"""What faults do to a run: killed, crashed, raced, corrupted, out of disk, poisoned. A module per claim."""
