"""Published trials written where people keep their runs: trackers, plain tables, data sets."""
