"""The policy as a server that any OpenAI client can talk to."""
