"""The network and the sampler: a prompt and conditions go in, frames come out.

`transformer` is the network, on the tokens of `tokens`; `pipeline` opens a checkpoint folder and
turns requests into videos; the other modules each hold one part of that way.
"""
