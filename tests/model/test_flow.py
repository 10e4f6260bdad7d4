"""Rectified flow: the path, its velocity and the law of timesteps."""

import math

import torch

from model.flow import interpolate, sample_timesteps, velocity


def test_velocity_is_the_derivative_of_the_path() -> None:
    """A straight path has a constant velocity: finite differences agree to fp64 rounding."""
    clean, noise = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    t, step = torch.rand((), dtype=torch.float64), 0.25
    slope = (interpolate(clean, noise, t + step) - interpolate(clean, noise, t)) / step
    torch.testing.assert_close(slope, velocity(clean, noise), atol=1e-12, rtol=0)


def test_the_path_runs_from_data_to_noise() -> None:
    clean, noise = torch.randn(2, 3, 5)
    assert torch.equal(interpolate(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(interpolate(clean, noise, torch.tensor(1.0)), noise)


def test_timesteps_follow_the_logit_normal_law() -> None:
    """Median and spread of logit(t) over 20,000 draws, within 5 standard errors."""
    generator = torch.Generator().manual_seed(0)
    t = sample_timesteps(20_000, 0.5, 1.3, 0.0, generator)
    logits = torch.logit(t)
    assert abs(logits.mean().item() - 0.5) < 5 * 1.3 / math.sqrt(20_000)
    assert abs(logits.std().item() - 1.3) < 5 * 1.3 / math.sqrt(2 * 20_000)


def test_the_uniform_share_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    t = sample_timesteps(20_000, 3.0, 0.1, 1.0, generator)
    assert abs(t.mean().item() - 0.5) < 5 * math.sqrt(1 / 12 / 20_000)
