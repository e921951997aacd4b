"""An experiment from its options to its files: train, resume, use."""
