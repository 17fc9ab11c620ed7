"""Pure functions on what was found and what is true: which object is found, figures, and how sure they are."""
