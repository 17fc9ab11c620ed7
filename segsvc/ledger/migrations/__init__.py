"""Alembic's migrations of the ledger: they come with the package, and are run when a ledger is opened."""
