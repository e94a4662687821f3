"""Build the image from scratch and test it: `python -m scripts.image_check --help`."""
