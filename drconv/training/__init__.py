"""What `drconv train` runs, usable alone."""
