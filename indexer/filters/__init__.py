"""The filter language of `where`: text to an expression, an expression to the rows that pass. Owns pyarrow."""
