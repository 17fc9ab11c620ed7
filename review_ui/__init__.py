"""What a person sees: the review page, its API, and pictures of the images, served by one process on one ledger."""
