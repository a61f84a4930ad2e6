"""instructor: a typed answer in each of its modes, through the openai and anthropic SDKs."""

import sys

import anthropic
import instructor
import openai
import pydantic


class River(pydantic.BaseModel):
    river: str


MESSAGES = [{"role": "user", "content": "Which one?"}]
OPENAI = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)
ANTHROPIC = anthropic.Anthropic(base_url=sys.argv[1], api_key="any", max_retries=0)
for client in (
    instructor.from_openai(OPENAI, mode=instructor.Mode.TOOLS),
    instructor.from_openai(OPENAI, mode=instructor.Mode.JSON_SCHEMA),
    instructor.from_openai(OPENAI, mode=instructor.Mode.JSON),
    instructor.from_anthropic(ANTHROPIC, mode=instructor.Mode.TOOLS),
):
    answer = client.create(
        model="suffice", messages=MESSAGES, response_model=River, max_retries=1, max_tokens=900
    )
    assert answer.river == "river-rhine"
    print(answer)
