"""``zsfuse export``: the tables of a labelled run in other programs' formats, one file a format."""
