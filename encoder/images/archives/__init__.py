"""Archives walked front to back and read back by place: tars and what compresses them, zips, Parquet."""
