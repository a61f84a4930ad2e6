"""Data, training and export of the small mixture-of-experts model that ships with suffice."""
