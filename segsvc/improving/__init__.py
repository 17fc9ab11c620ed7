"""A model made better by new labels, and let into the old one's place only where it is shown to be no worse."""
