"""dspy: a typed prediction."""

import sys

import dspy

model = dspy.LM("openai/suffice", api_base=sys.argv[1] + "/v1", api_key="any", cache=False)
dspy.configure(lm=model, adapter=dspy.JSONAdapter())
answer = dspy.Predict("question -> river: str")(question="Which one?")
assert answer.river == "river-rhine"
print(answer.river)
