"""What a cluster and a service run: not yet."""
