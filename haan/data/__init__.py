"""Annotations and clip features: one packed table, readers by format, planted features."""
