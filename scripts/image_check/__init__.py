"""The image, built from nothing and used as people use it: `python -m scripts.image_check --help`."""
