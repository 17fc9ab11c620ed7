"""What a cluster and a service run: the executor by Ray, the service of runs, and what starts them by itself."""
