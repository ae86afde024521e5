"""Rows from files: which files, their bytes as text, their text as rows, other forms of rows."""
