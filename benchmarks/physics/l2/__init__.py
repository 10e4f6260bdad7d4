"""L2: questions about a clip, put to any model that sees, behind an OpenAI-compatible endpoint.

The judge is never shown the prompt. It is believed only in families where it has told planted
right clips from planted wrong ones.
"""
