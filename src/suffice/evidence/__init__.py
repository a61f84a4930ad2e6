"""Public claims about the cost of inference, the evidence for each, and a command to measure it."""

from suffice.evidence.claims import GRADES, Claim, claims, find_claim

__all__ = ["GRADES", "Claim", "claims", "find_claim"]
