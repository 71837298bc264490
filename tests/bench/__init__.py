"""The benchmark's own parts: parsing, tables, frames."""
