"""The public claims about inference cost, what the evidence says, and how to measure each."""

from suffice.evidence.claims import GRADES, Claim, claims, find_claim

__all__ = ["GRADES", "Claim", "claims", "find_claim"]
