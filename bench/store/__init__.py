"""The results folder: rows with one writer, the plan and the locks, and the rows as a table."""
