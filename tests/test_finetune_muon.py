"""Muon in float32 takes the steps of torch's own, which computes in bfloat16."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Muon

from finetune.muon import Float32Muon, orthogonal

WEIGHTS, STEPS, EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7


def trained(kind, model, gradients, **options):
    optimizer = kind(model.parameters(), 0.01, adjust_lr_fn="match_rms_adamw", **options)
    for gradient in gradients:
        for matrix, its in zip(model.parameters(), gradient, strict=True):
            matrix.grad = its.clone()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("options", [{}, {"nesterov": False, "weight_decay": 0.3, "momentum": 0.8}])
def test_its_steps_are_those_of_torchs_muon_but_for_rounding(options):
    torch.manual_seed(1)
    ours = nn.ModuleList([nn.Linear(24, 40, bias=False), nn.Linear(40, 24, bias=False), nn.Linear(16, 16, bias=False)])
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours)
    gradients = [[torch.randn_like(matrix) for matrix in ours.parameters()] for _ in range(4)]
    trained(Float32Muon, ours, gradients, **options)
    trained(Muon, theirs, gradients, **options)
    for one, other, old in zip(ours.parameters(), theirs.parameters(), before.parameters(), strict=True):
        assert (one - other).norm() < 0.02 * (other - old).norm()  # bfloat16 has 8 bits


def test_a_training_goes_on_from_the_state_of_the_other():
    torch.manual_seed(2)
    model = nn.Linear(8, 12, bias=False)
    gradients = [[torch.randn(12, 8)] for _ in range(3)]
    saved = trained(Muon, copy.deepcopy(model), gradients).state_dict()
    goes_on = Float32Muon(model.parameters(), 0.5)
    goes_on.load_state_dict(saved)
    assert goes_on.param_groups[0]["lr"] == 0.01
    theirs = Muon(model.parameters(), 0.5)
    theirs.load_state_dict(goes_on.state_dict())
    assert theirs.state_dict()["state"][0].keys() == saved["state"][0].keys()


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 28)])
def test_what_it_adds_turns_and_stretches_little(shape):
    """The singular vectors are those of the matrix, and the singular values between 0.5 and 1.3 (the published range)."""
    torch.manual_seed(3)
    matrix = torch.randn(shape, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonal(matrix, WEIGHTS, STEPS, EPS) @ right.T
    values = inner.diagonal()
    assert (inner - values.diag()).abs().max() < 1e-9
    assert values.min() > 0.5
    assert values.max() < 1.3
