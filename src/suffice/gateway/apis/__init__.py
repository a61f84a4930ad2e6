"""Other APIs on top of the chat path: a request becomes a chat request, its answer theirs.

Each API has a module that reads and one that writes, of pure functions and values; `door` joins
them, and `exchange` puts them between a client and `suffice.gateway.chat`.
"""
