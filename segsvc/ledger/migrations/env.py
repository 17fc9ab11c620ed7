"""What Alembic runs: the migrations, in the connection and transaction of whoever opens the ledger."""

from __future__ import annotations

from alembic import context

from segsvc.ledger.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
