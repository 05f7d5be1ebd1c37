"""Reports: records of other commands as pages, tables and charts that people read."""
