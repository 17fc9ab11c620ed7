"""Label sets: whole images drawn at random, and the data sets that people make of them by labelling."""
