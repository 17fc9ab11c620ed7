"""What a person sees: not yet."""
