"""What holds for every test: the CPU, whatever machine they run on."""

import os

# Tests compare with fp32 on the CPU, where a pipeline left to itself would take a GPU and bf16.
# torch reads this once, so it is set before any test can import it; child processes inherit it.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
