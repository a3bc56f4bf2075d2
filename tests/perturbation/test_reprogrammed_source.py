# SPDX-License-Identifier: Apache-2.0
"""The perturbation of equation 1, its dropout, and many of them in one pass."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource, collect_outputs
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.sources.contract import freeze
from tests.tiny_source import TinySource

quick = settings(max_examples=30, deadline=None)
N = 400


def make_perturbation(*seeds, length=N, **parameters):
    """Return a perturbation in float64 with a group for each seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return Perturbation(length, generators, **parameters).double()


def make_reprogrammed(*seeds, n_timepoints=30, n_segments=3, mask=False, **parameters):
    """Return a tiny source of series with a perturbation, in float64."""
    placement = ReplicaPlacement(N, 1, n_timepoints, n_segments)
    return ReprogrammedSource(
        freeze(TinySource().double()),
        placement,
        make_perturbation(
            *seeds, mask=placement.mask() if mask else None, **parameters
        ),
    )


def random_series(n, n_timepoints=30, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 1, n_timepoints))


def random_tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def added(perturbation, n=1):
    """Return what is added to zeros, for each group and series."""
    with torch.no_grad():
        return perturbation(torch.zeros(n, N, dtype=torch.float64))


# --- equation 1 ----------------------------------------------------------------------


@quick
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 12),
    st.floats(0.01, 10),
    st.booleans(),
    st.integers(0, 99),
)
def test_equation_1_sample_by_sample(n_groups, batch, length, gain, masked, seed):
    mask = torch.rand(length, generator=torch.Generator().manual_seed(seed)) < 0.5
    perturbation = make_perturbation(
        *range(n_groups),
        length=length,
        input_gain=gain,
        mask=mask if masked else None,
        init_scale=1.0,
    )
    placed = random_tensor(batch, length, seed=seed)
    perturbed = perturbation(placed)
    assert perturbed.shape == (n_groups, batch, length)
    factors = perturbation.gain.tolist()
    assert factors == pytest.approx([gain] * n_groups, rel=1e-6)
    for g, i, t in np.ndindex(*perturbed.shape):
        allowed = 1.0 if not masked or mask[t] else 0.0
        expected = factors[g] * placed[i, t] + allowed * perturbation.delta[g, t]
        assert perturbed[g, i, t].item() == pytest.approx(expected.item(), abs=1e-12)


def test_what_is_added_keeps_away_from_the_series():
    module = make_reprogrammed(0, 1, mask=True)
    series = torch.tensor(random_series(2))
    sits = module.placement.place(torch.ones_like(series))[0] != 0
    waveforms = module.waveforms(series)
    placed = module.placement.place(series)
    assert torch.equal(waveforms[:, 0, sits], placed[:, sits])
    assert torch.equal(waveforms[:, 1, sits], placed[:, sits])
    effective = module.perturbation.effective()
    assert not effective[:, sits].any()
    assert effective[:, ~sits].all()
    module(series).logits.sum().backward()
    gradient = module.perturbation.delta.grad
    assert not gradient[:, sits].any()
    assert gradient[:, ~sits].any()


def test_the_gain_is_learned_only_if_asked_for():
    fixed = make_perturbation(0, 1, input_gain=0.3)
    learned = make_perturbation(0, 1, input_gain=0.3, train_gain=True)
    assert [name for name, _ in fixed.named_parameters()] == ["delta"]
    assert [name for name, _ in learned.named_parameters()] == ["delta", "log_gain"]
    for perturbation in (fixed, learned):
        assert perturbation.gain.tolist() == pytest.approx([0.3, 0.3], rel=1e-6)
        assert "log_gain" in perturbation.state_dict()
    # However far a step goes, the gain stays positive.
    learned.gain.sum().backward()
    with torch.no_grad():
        learned.log_gain -= 100.0 * learned.log_gain.grad.sign()
    assert (learned.gain > 0).all()


@pytest.mark.parametrize("init_scale", [0.01936, 0.1, 3.0])
def test_initial_values_are_uniform_within_their_bounds(init_scale):
    delta = make_perturbation(0, 1, length=16000, init_scale=init_scale).delta.detach()
    assert delta.abs().max() <= init_scale
    for group in delta:
        assert group.max() > 0.99 * init_scale
        assert group.min() < -0.99 * init_scale
        assert group.mean().abs() < 0.03 * init_scale
        assert group.std() == pytest.approx(init_scale / 3**0.5, rel=0.03)
    assert not torch.equal(delta[0], delta[1])


def test_an_initial_scale_of_zero_is_silence():
    assert not make_perturbation(0, init_scale=0.0).delta.any()


def test_initial_values_do_not_depend_on_the_precision():
    generator = torch.Generator().manual_seed(3)
    single = Perturbation(N, [generator]).delta
    assert single.dtype == torch.float32
    assert torch.equal(make_perturbation(3).delta, single.double())


# --- dropout -------------------------------------------------------------------------


def test_dropout_zeroes_the_same_samples_for_all_series_of_a_step():
    perturbation = make_perturbation(0, 1, dropout=0.4, input_gain=0.5).train()
    placed = random_tensor(7, N)
    with torch.no_grad():
        rest = perturbation(placed) - 0.5 * placed
    for group, delta in zip(rest, perturbation.delta, strict=True):
        kept = group[0].abs() > 1e-6
        expected = torch.where(kept, delta / 0.6, 0.0).detach().expand(7, N)
        torch.testing.assert_close(group, expected, rtol=0, atol=1e-7)
        assert 0.5 < kept.double().mean() < 0.7
    # Each group has samples of its own.
    assert not torch.equal(rest[0, 0].abs() > 1e-6, rest[1, 0].abs() > 1e-6)


def test_dropout_is_drawn_anew_for_each_step_and_right_on_average():
    perturbation = make_perturbation(0, dropout=0.3).train()
    steps = torch.stack([added(perturbation)[0, 0] for _ in range(400)])
    assert not torch.equal(steps[0], steps[1])
    delta = perturbation.delta[0].detach()
    kept = (steps != 0).double()
    assert kept.mean() == pytest.approx(0.7, abs=0.01)
    # No sample is favoured: 5 standard errors of a share over 400 steps.
    assert (kept.mean(0) - 0.7).abs().max() < 5 * (0.21 / 400) ** 0.5
    ratio = (steps.mean(0) @ delta) / (delta @ delta)
    assert ratio == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("training", "dropout"), [(False, 0.4), (True, 0.0)])
def test_no_dropout_at_prediction_or_without_a_rate(training, dropout):
    perturbation = make_perturbation(0, dropout=dropout).train(training)
    before = perturbation.generators[0].get_state()
    assert torch.equal(added(perturbation)[0, 0], perturbation.delta[0])
    assert torch.equal(perturbation.generators[0].get_state(), before)


def test_dropout_follows_the_generator():
    one, other = (make_perturbation(5, 6, dropout=0.4).train() for _ in range(2))
    for _ in range(3):
        assert torch.equal(added(one), added(other))
    states = [generator.get_state() for generator in one.generators]
    first = added(one)
    for generator, state in zip(one.generators, states, strict=True):
        generator.set_state(state)
    assert torch.equal(added(one), first)


def test_dropout_and_mask_act_together():
    mask = torch.arange(N) % 2 == 0
    perturbation = make_perturbation(0, dropout=0.4, mask=mask).train()
    step = added(perturbation)[0, 0]
    assert not step[~mask].any()
    kept = step[mask] != 0
    assert 0 < kept.sum() < mask.sum()
    expected = (perturbation.delta[0] / 0.6)[mask][kept]
    torch.testing.assert_close(step[mask][kept], expected.detach())


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_draws_on_where_the_original_stands(duplicate):
    perturbation = make_perturbation(0, dropout=0.4).train()
    added(perturbation)
    again = duplicate(perturbation)
    expected = added(perturbation)
    assert torch.equal(added(again), expected)


# --- randomness ----------------------------------------------------------------------


def test_a_group_draws_the_same_whoever_stands_beside_it():
    together = make_perturbation(4, 5, 6, dropout=0.4, train_gain=True).train()
    steps = [added(together) for _ in range(3)]
    for group, seed in enumerate((4, 5, 6)):
        single_module = make_perturbation(seed, dropout=0.4, train_gain=True).train()
        assert torch.equal(single_module.delta[0], together.delta[group])
        for step in steps:
            assert torch.equal(added(single_module)[0], step[group])


def test_the_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    module = make_reprogrammed(0, 1, dropout=0.4).train()
    module(torch.tensor(random_series(3))).logits.sum().backward()
    collect_outputs(module, random_series(3), batch_size=2)
    after = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(after[0], before[0])
    for one, other in zip(after[1], before[1], strict=True):
        np.testing.assert_array_equal(one, other)


# --- groups --------------------------------------------------------------------------

SETTINGS = [
    {},
    {"mask": True},
    {"dropout": 0.4},
    {"mask": True, "dropout": 0.2, "train_gain": True, "input_gain": 0.3},
]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("parameters", SETTINGS, ids=repr)
def test_groups_in_one_pass_equal_separate_modules(parameters):
    series = torch.tensor(random_series(5))
    stacked = make_reprogrammed(7, 8, 9, **parameters).train()
    outputs = stacked(series)
    assert outputs.logits.shape == (5, 3, 12)
    assert outputs.embedding.shape == (5, 3, 10)
    (outputs.logits.square().mean((0, 2)).sum() + outputs.embedding.sum()).backward()
    for group, seed in enumerate((7, 8, 9)):
        single_module = make_reprogrammed(seed, **parameters).train()
        single = single_module(series)
        close(outputs.logits[:, group], single.logits[:, 0])
        close(outputs.embedding[:, group], single.embedding[:, 0])
        (single.logits.square().mean() + single.embedding.sum()).backward()
        for name, parameter in single_module.perturbation.named_parameters():
            gradient = stacked.perturbation.get_parameter(name).grad[group]
            assert gradient.any()
            close(gradient, parameter.grad[0])


@pytest.mark.parametrize("parameters", SETTINGS, ids=repr)
def test_runs_trained_in_one_pass_equal_separate_runs(parameters):
    """Method, section 3.4: the loss is the sum of the means that each run has."""
    seeds, n_steps, batch = (7, 8, 9), 6, 4
    placement = make_reprogrammed(0).placement
    # Every run sees data of its own.
    batches = random_tensor(n_steps, 3, batch, 1, 30)
    labels = torch.arange(batch) % 2

    def run_loss(module, placed):
        """Return the mean loss of each group, of placed series (G, batch, N)."""
        perturbed = module.perturbation(placed)
        logits = module.source(perturbed.flatten(0, 1)).logits.unflatten(
            0, perturbed.shape[:2]
        )
        scores = torch.log_softmax(logits[..., :2], dim=-1)
        own = -scores[:, torch.arange(batch), labels].mean(1)
        return own + 0.04 * module.perturbation.effective().square().sum(1)

    def train(module, groups):
        adam = torch.optim.Adam(module.perturbation.parameters(), lr=0.05)
        losses = []
        for step in batches:
            placed = torch.stack([placement.place(step[group]) for group in groups])
            own = run_loss(module, placed)
            adam.zero_grad()
            own.sum().backward()
            adam.step()
            losses.append(own.detach())
        return torch.stack(losses)

    stacked = make_reprogrammed(*seeds, **parameters).train()
    start = copy.deepcopy(dict(stacked.perturbation.named_parameters()))
    together = train(stacked, range(3))
    for group, seed in enumerate(seeds):
        single_module = make_reprogrammed(seed, **parameters).train()
        close(train(single_module, [group])[:, 0], together[:, group])
        for name, parameter in single_module.perturbation.named_parameters():
            close(stacked.perturbation.get_parameter(name)[group], parameter[0])
            assert not torch.equal(parameter[0], start[name][group])


def test_each_group_may_have_series_of_its_own():
    perturbation = make_perturbation(0, 1, 2, input_gain=0.5)
    placed = random_tensor(3, 4, N)
    perturbed = perturbation(placed)
    for group in range(3):
        assert torch.equal(perturbed[group], perturbation(placed[group])[group])


# --- the source ----------------------------------------------------------------------


def state_bytes(module):
    return {
        name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()
    }


def test_outputs_are_those_of_the_source_for_each_waveform():
    module = make_reprogrammed(0, 1, mask=True).eval()
    series = torch.tensor(random_series(3))
    waveforms = module.waveforms(series)
    assert waveforms.shape == (3, 2, N)
    logits, embedding = module(series)
    for i, view in np.ndindex(3, 2):
        single = module.source(waveforms[i, view][None])
        close(logits[i, view], single.logits[0])
        close(embedding[i, view], single.embedding[0])


def test_the_source_is_shared_and_left_alone():
    module = make_reprogrammed(0, train_gain=True)
    learned = [name for name, value in module.named_parameters() if value.requires_grad]
    assert learned == ["perturbation.delta", "perturbation.log_gain"]
    modes = [(child, child.training) for child in module.source.modules()]
    module.train().eval().train()
    assert all(child.training == training for child, training in modes)
    # On another device a copy reads the one copy of the source there.
    there = torch.device("meta")
    moved, again = module.on(there), module.on(there)
    assert moved.source is again.source and moved.perturbation.delta.is_meta
    assert moved.perturbation.generators[0] is module.perturbation.generators[0]
    assert not next(module.source.parameters()).is_meta


def test_the_source_gets_no_gradient_and_does_not_change():
    module = make_reprogrammed(0, 1, dropout=0.4).train()
    before = state_bytes(module.source)
    for _ in range(3):
        module(torch.tensor(random_series(4))).logits.sum().backward()
    collect_outputs(module, random_series(4))
    assert module.perturbation.delta.grad.any()
    assert all(parameter.grad is None for parameter in module.source.parameters())
    assert state_bytes(module.source) == before


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_collected_outputs_do_not_depend_on_the_batches(batch_size):
    module = make_reprogrammed(0, 1, dropout=0.4).train()
    series = random_series(7)
    draws = [generator.get_state() for generator in module.perturbation.generators]
    logits, embedding = collect_outputs(module, series, batch_size)
    assert isinstance(logits, np.ndarray) and logits.dtype == np.float64
    assert logits.shape == (7, 2, 12)
    assert embedding.shape == (7, 2, 10)
    with torch.no_grad():
        whole = copy.deepcopy(module).eval()(torch.tensor(series))
    np.testing.assert_allclose(logits, whole.logits, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(embedding, whole.embedding, rtol=1e-10, atol=1e-12)
    # The dropout of a training that goes on is not touched.
    assert module.training
    for generator, draw in zip(module.perturbation.generators, draws, strict=True):
        assert torch.equal(generator.get_state(), draw)


def test_outputs_of_a_full_device_are_those_of_an_empty_one(monkeypatch):
    module, series = make_reprogrammed(0, 1), random_series(11)
    expected = collect_outputs(module, series, batch_size=11)
    plain = ReprogrammedSource.forward

    def forward(self, series, rows=None):
        if len(series) > 3:
            raise torch.OutOfMemoryError("full")
        return plain(self, series, rows)

    monkeypatch.setattr(ReprogrammedSource, "forward", forward)
    with pytest.warns(UserWarning, match="Going on with 5 at a time"):
        found = collect_outputs(module, series, batch_size=11)
    for part, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("training", [True, False])
def test_collecting_leaves_the_mode_and_the_gradients(training):
    module = make_reprogrammed(0).train(training)
    with torch.enable_grad():
        collect_outputs(module, random_series(2))
        assert module.training is training
        assert module.perturbation.training is training
        assert module.perturbation.delta.requires_grad
        assert module(torch.tensor(random_series(2))).logits.requires_grad


def test_collecting_computes_in_the_precision_of_the_perturbation():
    module = make_reprogrammed(0)
    single = ReprogrammedSource(
        freeze(TinySource()),
        module.placement,
        copy.deepcopy(module.perturbation).float(),
    )
    series = random_series(3)
    double_logits = collect_outputs(module, series).logits
    single_logits = collect_outputs(single, series).logits
    assert single_logits.dtype == np.float64
    np.testing.assert_allclose(single_logits, double_logits, atol=1e-4)
    assert np.abs(single_logits - double_logits).max() > 1e-9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_accelerator_computes_the_same():
    module = make_reprogrammed(0, 1, dropout=0.4, mask=True).train()
    moved = copy.deepcopy(module).on(torch.device("cuda"))
    series = torch.tensor(random_series(3))
    for one, other in zip(module(series), moved(series.to("cuda")), strict=True):
        close(other.cpu(), one)
    moved(series.to("cuda")).logits.sum().backward()
    assert moved.perturbation.delta.grad.any()
    one, other = (collect_outputs(m, series.numpy()).logits for m in (module, moved))
    np.testing.assert_allclose(other, one, atol=1e-9)
