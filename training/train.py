"""Train the spacetime transformer by rectified flow: from scratch, or from a checkpoint.

    accelerate launch training/train.py --config configs/toy.yaml [--dry-run] [key.sub=value ...]

On one process or on many (configs/launch/). A run folder that already holds a state is gone on
with, on as many processes as there are then. SIGTERM and SIGINT end the step under way and save.
"""

import contextlib
import math
import os
import signal
import sys
from datetime import timedelta
from functools import partial
from types import FrameType

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import ProjectConfiguration, broadcast
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from training.batch import Batches
from training.checkpoint import Checkpoints, StateMismatch, StateNotWritten, saved
from training.config import ConfigError, TrainConfig, parse_arguments
from training.data.dataset import open_data
from training.ema import EMA
from training.estimate import dry_run
from training.files import RunInUse, alone, no_room
from training.heartbeat import Heartbeat
from training.layout import teach_layout
from training.log import Log
from training.network import check_start, known_ids
from training.optim import build_optimizers, schedule, set_rates
from training.parallel import check_launch, distribute, exchange, place
from training.precision import autocast, check_precision, to_fp8
from training.speed import Cost
from training.state import TrainState
from training.tasks import FineTuning, Scratch
from training.validation import Validation


def main(config: TrainConfig) -> None:
    """Run the training that `config` describes."""
    check_launch()
    check_start(config)
    # Data: encoded once, then memory-mapped; before the processes wait for each other with a limit.
    dataset, held_out = open_data(config.data)

    patience = timedelta(minutes=config.parallel.timeout_minutes)
    # Launch, process group and device; what the processes do together is below.
    accelerator = Accelerator(
        log_with=config.tracker,
        project_config=ProjectConfiguration(str(config.run), str(config.run / "curves")),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)],
    )
    device = accelerator.device
    check_precision(config, device)
    torch.manual_seed(config.seed)
    task = FineTuning(config, dataset) if config.text.cached else Scratch(config, dataset)
    texts = task.texts(dataset)

    # The network, on this process's place among the others.
    network = task.build(channels=dataset.channels).to(device)
    if config.teaches_text and not saved(config.run):
        ids, masks = texts[torch.arange(1, 1 + len(dataset))]
        lessons = ids, masks, dataset, config.text, config.seed, known_ids(config)
        teach_layout(network.text_encoder, *lessons, say=partial(accelerator.print, flush=True))
        for parameter in network.text_encoder.parameters():  # one device's sums are not another's
            parameter.data = broadcast(parameter.data)
    if config.text.steps:
        network.text_encoder.requires_grad_(False)
    shape = network.transformer.config
    at = place(config, accelerator.num_processes, device, shape.num_attention_heads)
    if config.precision == "fp8":
        to_fp8(network.transformer.blocks)
    if config.compile:
        for block in network.transformer.blocks:
            block.compile()  # in place, and before sharding hooks the block
    model = distribute(network, at, config.parallel)

    # Samples, packed to a budget of tokens; every process sees the same stream of packs.
    width = shape.num_attention_heads * shape.attention_head_dim
    batches = Batches(config, dataset, shape.patch_size)
    stream = batches.stream(width)
    if held_out:
        Batches(config, held_out, shape.patch_size).check()

    # The one object that owns what a resume needs.
    optimizers = build_optimizers(network, config.optim)
    ema = EMA(network, config.optim.ema_decay)
    state = TrainState(network, optimizers, ema, stream, dataset.fingerprint)
    checkpoints = Checkpoints(config.run, patience)
    resumed = checkpoints.load_latest(state)
    cost = Cost(width, shape.ffn_dim, shape.num_layers, task.length)
    log = Log(config, accelerator, state.step, cost)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    heart = Heartbeat(config.run, patience)
    validate = Validation(config, task, held_out, accelerator, at, heart, log)
    verb = f"resuming at step {state.step}" if resumed else "starting"
    log.say(f"{verb}: {millions:.1f}M parameters, {config.steps} steps, run folder {config.run}")

    # A pack has one shape where something depends on it: a compiled graph, a shared sequence.
    budget = config.batch.tokens if config.compile or at.sequence else None
    stop = StopSignal()
    while state.step < config.steps and not at.total([stop.asked]):
        heart.beat(state.step)
        factor = schedule(state.step, config.steps, config.optim)
        set_rates(state.optimizers, factor, config.optim)

        # This process's packs of the step, and what the weights of all packs sum to.
        packs = next(state.stream)
        mine = [batches.build(pack, budget) for pack in packs[at.data :: at.data_size]]
        total = at.total(batch.weight for batch in mine) / at.sharers

        # Rectified flow: from x_t and t, predict the velocity from data to noise. The gradients of
        # all processes are averaged, hence the factor.
        losses = []
        for left, batch in zip(reversed(range(len(mine))), map(at.share, mine), strict=True):
            exchange(model, gradients=left == 0)
            tokens, target = batch.tokens.to(device), batch.target.to(device)
            text = (part.to(device) for part in (*texts[batch.rows], *batch.images))
            with autocast(config, device):
                predicted = model(tokens, *text)
            error = (predicted - target).square().mean(dim=1)
            loss = (tokens.loss_weight * error).sum() / total
            (loss * accelerator.num_processes).backward()
            losses.append(loss)

        loss = at.total(losses)
        norm = full(clip_grad_norm_(network.parameters(), config.optim.max_grad_norm))
        if not math.isfinite(loss.item() + norm.item()):
            clips = log.stopped(state.step + 1, batches.named(packs))
            sys.exit(
                f"step {state.step + 1}: loss {loss.item()}, gradient norm {norm.item()}; stopped "
                f"before they reached the weights; {clips} names the step's clips. Look at them, "
                "or lower optim.lr and optim.muon_lr, and start again: the run goes on from its "
                "last state"
            )
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        state.ema.update()
        state.step += 1
        log.step(state.step, loss.item(), norm.item(), packs, config.optim.lr * factor)
        if state.step % config.save_every == 0:
            checkpoints.save(state)
        if state.step % config.sample_every == 0 and state.step < config.steps:
            validate(model, network, state)

    checkpoints.save(state)
    done = state.step == config.steps
    (validate if done else validate.export)(model, network, state)
    checkpoints.wait()
    verb = "done" if done else "stopped by a signal"
    log.say(f"{verb} at step {state.step}; result in {config.run}")
    accelerator.wait_for_everyone()  # leaving without a barrier aborts a process group at times
    accelerator.end_training()


def full(tensor: Tensor) -> Tensor:
    """A value of which every process may hold a part."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


class StopSignal:
    """Remembers that SIGTERM or SIGINT came, so that the step under way ends and is saved.

    `asked` is 1 from then on, else 0: a tensor, for all processes to agree on.
    """

    def __init__(self) -> None:
        self.asked = torch.zeros(())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked.fill_(1)


if __name__ == "__main__":
    resolved = parse_arguments(TrainConfig, __doc__ or "")
    first = os.environ.get("RANK", "0") == "0"
    try:
        if resolved.dry_run:
            dry_run(resolved)
        else:
            with alone(resolved.run) if first else contextlib.nullcontext():
                main(resolved)
    except (ConfigError, RunInUse, StateMismatch, StateNotWritten) as error:
        sys.exit(f"train.py: {error}")
    except (OSError, SafetensorError) as error:
        if not no_room(error):
            raise
        sys.exit(
            f"train.py: run: no room to write in {resolved.run} ({error}); make room and start "
            "again: the run goes on from its last state"
        )
