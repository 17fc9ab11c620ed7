"""Models from elsewhere, and models to elsewhere.

`importing` makes a model's folder of what other libraries have written: `sources` tells by content what it is, `smp`,
`timm`, `torchvision` and `state_dicts` read a kind each, `comparison` holds the result against its own library. `exporting`
copies a model's folder.
"""
