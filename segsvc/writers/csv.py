"""CSV: one line a candidate, with probability, band and the columns that the images' manifest brought along.

The columns are those of `CANDIDATES_VIEW_SCHEMA`; `verdict`, `decided_by` and `decided_at` where a ledger has the run; then
each further column of the manifest under its own name (after `meta.` where the name is taken). Text is quoted as RFC 4180
says, a missing value is an empty cell without quotes. Values are exact: a text that starts with =, +, - or @ stays as it
is, so a spreadsheet is to import it as text.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from segsvc.errors import ConfigError
from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.writers import Export, ExportCount
from segsvc.writers._rows import csv_line, meta_columns, readable_count, view, view_schema
from segsvc.writers.paths import file_target, first_line, reading, replacing


class CsvWriter:
    """`to` is a file that ends in .csv, or a folder that gets candidates.csv."""

    name = "csv"
    keeps = frozenset(CANDIDATES_VIEW_SCHEMA.names)

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes all candidates in order. Raises ConfigError for a place that cannot be written."""
        from pyarrow import csv as arrow_csv

        header = csv_line(CANDIDATES_VIEW_SCHEMA.names).rstrip("\n")
        target = file_target(to, format_name=self.name, suffixes=(".csv",), default_name="candidates.csv",
                             is_ours=lambda path: first_line(path).startswith(header))
        columns = meta_columns(export, view_schema(export, {}).names)
        images = candidates = 0
        options = arrow_csv.WriteOptions(include_header=False)
        with replacing(target) as file:
            file.write(csv_line(view_schema(export, columns).names).encode())
            for part in export.parts():
                table = view(export, part, columns)
                if table.num_rows:
                    arrow_csv.write_csv(table, file, options)
                images += readable_count(part)
                candidates += table.num_rows
        return ExportCount(images=images, candidates=candidates, files=1)

    def decode(self, path: Path) -> pa.Table:
        """The candidates in the file, or in the folder's candidates.csv. Raises ConfigError for anything else."""
        from pyarrow import csv as arrow_csv

        source = path / "candidates.csv" if path.is_dir() else path
        parse = arrow_csv.ParseOptions(newlines_in_values=True)
        convert = arrow_csv.ConvertOptions(column_types=CANDIDATES_VIEW_SCHEMA, strings_can_be_null=True,
                                           quoted_strings_can_be_null=False, null_values=[""], true_values=["true"],
                                           false_values=["false"], include_columns=CANDIDATES_VIEW_SCHEMA.names)
        with reading(source):
            try:
                table = arrow_csv.read_csv(source, parse_options=parse, convert_options=convert)
                return table.cast(CANDIDATES_VIEW_SCHEMA)
            except (pa.ArrowInvalid, KeyError) as error:
                raise ConfigError(f"expected a CSV export of candidates, got {source}: {error}") from error


PLUGIN = CsvWriter()
