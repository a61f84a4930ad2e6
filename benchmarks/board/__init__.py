"""One board over the recorded outcomes of others: which settings are as good as the best."""
