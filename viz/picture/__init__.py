"""What is to be drawn, before anything has a place: one file for each view."""
