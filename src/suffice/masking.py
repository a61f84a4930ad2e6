"""Secrets by their shape: keys of providers, tokens, private keys, passwords in a URL."""

import re

# Repetitions are bounded, so that a stranger's text costs no more than its length.
SECRETS = {
    "private key": re.compile(
        r"-----BEGIN (?:[A-Z]{1,20} )?PRIVATE KEY-----[A-Za-z0-9+/=\\\s]{40,9000}"
    ),
    "key of OpenAI or suffice": re.compile(r"\bsk-(?!ant-)[A-Za-z0-9_-]{32,400}"),
    "key of Anthropic": re.compile(r"\bsk-ant-[A-Za-z0-9_-]{32,400}"),
    "key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "token of GitHub": re.compile(
        r"\b(?:ghp|gho|ghs|ghr)_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{50,400}"
    ),
    "token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{34,100}\b"),
    "key of Google": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "key of xAI or Groq": re.compile(r"\b(?:xai-|gsk_)[A-Za-z0-9]{40,200}\b"),
    "token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,200}"),
    "JSON web token": re.compile(r"\beyJ[\w-]{10,900}\.eyJ[\w-]{10,900}\.[\w-]{20,900}"),
    "password in a URL": re.compile(
        r"\b(?:postgres(?:ql)?|mysql|redis|amqp)://[^\s:/@{}]{1,100}:[^\s@{}]{3,200}@"
    ),
}
# Words that stand before a secret of any shape; too vague to look for in files.
_NAMED = re.compile(
    r"(?i)\b(bearer|api[ _-]?key|authorization|password|secret)"
    r"((?: provided)?[\"']?[ =:]{1,4}[\"']?)"
    r"(?=[^\s\"',}]{0,200}\d)[A-Za-z0-9._~+/=*-]{12,400}"
)


def masked(text: str) -> str:
    """Return a text with `***` in the place of whatever looks like a secret."""
    for pattern in SECRETS.values():
        text = pattern.sub("***", text)
    return _NAMED.sub(r"\1\2***", text)
