"""The commands of the pipeline, and the steps that they share."""
