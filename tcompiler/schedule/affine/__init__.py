"""Facts about quasi-affine maps: digits decide in microseconds, isl decides what they leave unknown."""
