"""A server that speaks OpenAI's protocol: one engine, one thread for it, a bounded queue in front."""
