"""How long a `/v1/videos` server takes, by a protocol whose figures can be quoted."""
