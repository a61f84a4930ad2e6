"""The anthropic SDK: the tool runner, whole and streamed, and a count of tokens."""

import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="any", max_retries=0)
MESSAGES = [{"role": "user", "content": "Say the river."}]


@anthropic.beta_tool
def river(country: str) -> str:
    """Name a river.

    Args:
        country: where it flows
    """
    assert country == "Germany"
    return "river-rhine"


for stream in (False, True):
    runner = client.beta.messages.tool_runner(
        model="suffice", max_tokens=1000, messages=MESSAGES, tools=[river], stream=stream
    )
    last = None
    for item in runner:
        last = item.get_final_message() if stream else item
    print(last.content[0].text, last.usage.input_tokens)
count = client.messages.count_tokens(model="suffice", messages=MESSAGES)
assert count.input_tokens > 0
assert "suffice" in [model.id for model in client.models.list()]
