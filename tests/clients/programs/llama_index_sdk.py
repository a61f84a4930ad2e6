"""LlamaIndex: chat with a tool, streamed chat, and completions of bare text."""

import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def river(country: str) -> str:
    """Name a river."""
    return "river-rhine" if country == "Germany" else "none"


def model(*, chat: bool) -> OpenAILike:
    return OpenAILike(
        model="suffice" if chat else "small",  # a policy chooses for chats alone
        api_base=sys.argv[1] + "/v1",
        api_key="any",
        is_chat_model=chat,
        is_function_calling_model=chat,
        max_retries=0,
    )


TOOL = FunctionTool.from_defaults(river)
answer = model(chat=True).predict_and_call([TOOL], user_msg="Say the river.")
print(answer)
*_, last = model(chat=True).stream_chat([ChatMessage("Which one?")])
assert "river-rhine" in last.message.content
text = model(chat=False).complete("Which one?")
assert "river-rhine" in text.text
*_, last = model(chat=False).stream_complete("Which one?")
assert "river-rhine" in last.text
