"""A checkpoint on disk: hostile input checked, never opened as a model, and a repaired one written safely."""
