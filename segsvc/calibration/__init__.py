"""Labelled images that a model was not trained on -> its operating point: thresholds with a promise, and what shows it.

`looking` asks the model about each image, `choosing` makes thresholds of what it said, `calibrating` is the whole of it,
`report` shows it. The theorems are in `quality.bounds`, their use in `quality.thresholds`.
"""
