"""How answers are marked: scorers, judges, human labels, audits."""
