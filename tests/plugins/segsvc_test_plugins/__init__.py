"""Plugins as another package would bring them, found by entry points."""
