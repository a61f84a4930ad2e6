"""The small mixture-of-experts model that ships with suffice: data, training, export."""
