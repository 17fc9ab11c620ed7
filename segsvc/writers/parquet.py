"""Parquet: one row a candidate, with probability, band and the columns that the images' manifest brought along.

The columns are those of `CANDIDATES_VIEW_SCHEMA`; `verdict`, `decided_by` and `decided_at` where a ledger has the run; then
each further column of the manifest as text under its own name (after `meta.` where the name is taken). A shard is a row
group.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from segsvc.errors import ConfigError
from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.writers import Export, ExportCount
from segsvc.writers._rows import meta_columns, readable_count, view, view_schema
from segsvc.writers.paths import file_target, reading, replacing


class ParquetWriter:
    """`to` is a file that ends in .parquet, or a folder that gets candidates.parquet."""

    name = "parquet"
    keeps = frozenset(CANDIDATES_VIEW_SCHEMA.names)

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes all candidates in order. Raises ConfigError for a place that cannot be written."""
        from pyarrow import parquet

        target = file_target(to, format_name=self.name, suffixes=(".parquet",), default_name="candidates.parquet",
                             is_ours=_is_ours)
        columns = meta_columns(export, view_schema(export, {}).names)
        images = candidates = 0
        schema = view_schema(export, columns)
        with replacing(target) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for part in export.parts():
                table = view(export, part, columns)
                if table.num_rows:
                    writer.write_table(table)
                images += readable_count(part)
                candidates += table.num_rows
        return ExportCount(images=images, candidates=candidates, files=1)

    def decode(self, path: Path) -> pa.Table:
        """The candidates in the file, or in the folder's candidates.parquet. Raises ConfigError for anything else."""
        from pyarrow import parquet

        source = path / "candidates.parquet" if path.is_dir() else path
        with reading(source):
            try:
                table = parquet.read_table(source, columns=CANDIDATES_VIEW_SCHEMA.names)
                return table.cast(CANDIDATES_VIEW_SCHEMA)
            except (pa.ArrowInvalid, ValueError) as error:
                raise ConfigError(f"expected a Parquet export of candidates, got {source}: {error}") from error


def _is_ours(path: Path) -> bool:
    from pyarrow import parquet

    try:
        return set(CANDIDATES_VIEW_SCHEMA.names) <= set(parquet.read_schema(path).names)
    except pa.ArrowInvalid:
        return False


PLUGIN = ParquetWriter()
