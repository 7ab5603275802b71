"""The results folder: rows with one writer, the plan, the failures and the locks, and the rows as a table."""
