"""Forecasts of price, tested on the past."""
