"""``zsfuse report``: one HTML page to look at the labels of a run, listen to them and correct them."""
