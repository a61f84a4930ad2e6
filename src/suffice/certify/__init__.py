"""From trials to a certificate, and the folder it is kept in."""
