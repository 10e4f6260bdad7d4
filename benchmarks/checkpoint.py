"""A tiny checkpoint of random weights in the real format, for whatever is not about the picture."""

import json
from pathlib import Path

WORDS = ["a", "red", "blue", "ball", "is", "dropped", "and", "bounces", "cat", "walks", "left"]
EXAMPLES = ["a red ball is dropped and bounces", "a blue cat walks left"]


def write_tiny(folder: Path) -> None:
    """Write a folder like the embedded model's: 64x64, 17 frames, 8 a second, a few words."""
    # Here, because the words above are also wanted where torch is not.
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    from model.autoencoder import VideoAutoencoder
    from model.text import build_tokenizer

    torch.manual_seed(0)
    WanPipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=3 + len(WORDS), d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=16
            )
        ),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=16,
            freq_dim=16,
            ffn_dim=24,
            num_layers=1,
            in_channels=16,
            out_channels=16,
        ),
        vae=VideoAutoencoder(hidden_channels=8, num_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "capabilities": ["text"],
        "max_sequence_length": 12,
        "limits": {"sizes": ["64x64"], "num_frames": [17, 9], "fps": 8},
        "defaults": {"num_inference_steps": 2, "guidance_scale": 2.5},
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    known = {"words": WORDS, "grammar": ["a {c} ball is dropped and bounces"], "examples": EXAMPLES}
    (folder / "examples.json").write_text(json.dumps(known))
