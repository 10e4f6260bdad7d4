"""Teach the text encoder where a caption puts things, before the transformer learns to draw them.

A text encoder that learns by a transformer's loss alone may stay a bag of words: "a red square to
the left of a blue circle" then means the same as its swap, and which is which is chance in every
clip. The words would have to be bound to each other before anything is gained, so there is no slope
to follow. From text alone the same slope is a thousand times cheaper to look for: a head that is
thrown away predicts a coarse picture of each clip from its caption. The encoder is then kept as it
is: trained on, it was a bag of words again within 400 steps of the transformer's.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import UMT5EncoderModel

from training.config import TextConfig
from training.data.dataset import Dataset
from training.noise import generator
from training.optim import ramp

GRID = (2, 4, 4)
"""Cells in time, height and width over which a clip's latents are averaged."""
REPORT_EVERY = 200


def teach_layout(
    encoder: UMT5EncoderModel,
    token_ids: Tensor,
    masks: Tensor,
    dataset: Dataset,
    config: TextConfig,
    seed: int,
    known: int,
    say: Callable[[str], None],
) -> None:
    """Train `encoder` in place to tell a clip's coarse layout from its caption.

    Args:
        encoder: fresh, or one that has had its lessons and is to learn more words.
        token_ids: `(N, L)`, of the captions of the data set.
        masks: `(N, L)`, 1 where there is text.
        dataset: N clips.
        config: steps, batch and learning rate.
        seed: of the order.
        known: ids below it are known. If there are any, the embeddings of the others are all that
            is trained, so that every text without new words is told as it was, to the last bit;
            if there are no others, nothing is.
        say: takes a line on the progress now and then.
    """
    embeddings: Tensor = encoder.get_input_embeddings().weight
    if known == len(embeddings):
        return
    layouts = coarse(dataset)
    layouts -= layouts.mean(0)
    variance = layouts.square().mean()
    alike = twins(dataset.captions)
    length = int(masks.sum(1).max())  # past it there is nothing to read
    token_ids, masks = token_ids[:, :length], masks[:, :length]
    device = encoder.device

    # Linear, so that what words mean together is worked out in the encoder and not in the head.
    head = nn.Linear(encoder.config.d_model, layouts.shape[1], device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    learning = [embeddings] if known else list(encoder.parameters())
    trained = [*learning, *head.parameters()]
    optimizer = AdamW(trained, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    errors: list[float] = []
    started = time.monotonic()
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.lr * ramp(step, config.steps, 50, 0.4)
        g = generator(seed, "layout", step)
        rows = torch.randint(len(layouts), (config.batch,), generator=g)
        if len(alike):  # half of them where the order of words is all that tells
            half = torch.randint(len(alike), (config.batch // 2,), generator=g)
            rows[: config.batch // 2] = alike[half]
        ids, mask = token_ids[rows].to(device), masks[rows].to(device).unsqueeze(-1)
        hidden = encoder(input_ids=ids, attention_mask=mask[..., 0]).last_hidden_state
        predicted = head((hidden * mask).sum(1) / mask.sum(1))
        error = (predicted - layouts[rows].to(device)).square().mean() / variance
        error.backward()
        assert embeddings.grad is not None
        embeddings.grad[:known] = 0.0
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        errors.append(error.item())
        if (step + 1) % REPORT_EVERY == 0:
            minutes = (time.monotonic() - started) / 60
            mean = sum(errors[-REPORT_EVERY:]) / REPORT_EVERY
            say(f"text {step + 1}/{config.steps} error {mean:.4f} {minutes:.1f} min")


def twins(captions: Sequence[str]) -> Tensor:
    """Return the indices of captions whose words, in another order, are another caption."""
    texts = defaultdict(set)
    for caption in captions:
        texts[tuple(sorted(caption.split()))].add(caption)
    ambiguous = {caption for same in texts.values() if len(same) > 1 for caption in same}
    return torch.tensor([n for n, c in enumerate(captions) if c in ambiguous], dtype=torch.long)


def coarse(dataset: Dataset) -> Tensor:
    """Return the latents of every clip averaged over a coarse grid, `(N, C·2·4·4)`."""
    return torch.stack(
        [adaptive_avg_pool3d(dataset.latents(n), GRID).flatten() for n in range(len(dataset))]
    )
