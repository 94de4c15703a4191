"""The decoder over picture tokens, which copies or draws, and the upsampling decoder of the published systems."""

from __future__ import annotations

import math

import pytest
import torch

from storylib import decoders
from storylib.data.picture_tokens import CODES
from storylib.decoders import CELL, DRAWING_STEPS, TokenDecoder, UpsamplingDecoder

WIDTH, FRAMES, SIZE, SIDE = 8, 3, 16, 4  # of states; pictures of the context; pixels and codes of a side
TWO = (3, 8)  # codes


@pytest.fixture
def untrained(monkeypatch):
    """A small one."""
    monkeypatch.setattr(decoders, "TOKEN_WIDTH", 32)
    monkeypatch.setattr(decoders, "TOKEN_LAYERS", 1)
    torch.manual_seed(0)
    return TokenDecoder(WIDTH, FRAMES, SIZE)


@pytest.fixture
def decoder(untrained):
    """The same, but different at every place."""
    decoder = untrained
    decoder.choice.weight.data.normal_(std=0.3)
    decoder.position.data.normal_()
    return decoder.eval()


@pytest.fixture
def inputs():
    """State (B, width) and codes (B, K + 1, G, G)."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(CODES, (5, FRAMES + 1, SIDE, SIDE), generator=generator)
    codes[:, -1, :2] = codes[:, 0, :2]  # half of the target is that of the first picture
    return torch.randn(5, WIDTH, generator=generator), codes


def batch_of(codes):
    """With pictures that are not quite what their codes show."""
    shape = len(codes), FRAMES, 3, CELL * codes.shape[-1], CELL * codes.shape[-1]
    return {"codes": codes, "context_pictures": torch.rand(shape, generator=seeded(2))}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def unknown(codes):
    return torch.full_like(codes, CODES)


# What is learned


def test_the_probabilities_of_all_codes_sum_to_one(decoder, inputs):
    state, codes = inputs
    partly = codes[:, -1].masked_fill(torch.rand(5, SIDE, SIDE, generator=seeded(0)) < 0.5, CODES)
    for known in (unknown(codes[:, -1]), partly):
        probabilities = decoder.probabilities(state, codes[:, :-1], known)
        assert probabilities.shape == (5, SIDE, SIDE, CODES) and (probabilities > 0).all()
        assert torch.allclose(probabilities.sum(-1), torch.ones(5, SIDE, SIDE), atol=1e-5)


def test_the_probability_is_a_mixture_of_what_is_copied_and_what_is_new(decoder, inputs):
    """Of a code that two context pictures have at a place: both shares, and its share of the new ones."""
    state, codes = inputs
    codes[:, 1, 2, 3] = codes[:, 0, 2, 3]
    known = unknown(codes[:, -1])
    new, choice = decoder._read(state, codes[:, :-1], known)
    new, shares = decoder._logits(new[0, 2, 3]).softmax(-1), choice[0, 2, 3].softmax(-1)
    code = codes[0, 0, 2, 3]
    expected = shares[0] + shares[1] + shares[3] * new[code]
    assert torch.allclose(decoder.probabilities(state, codes[:, :-1], known)[0, 2, 3, code], expected)


def nats_of(decoder, state, codes, hidden):
    """(B,) mean over the hidden codes, from the probabilities."""
    probabilities = decoder.probabilities(state, codes[:, :-1], codes[:, -1].masked_fill(hidden, CODES))
    nats = -probabilities.gather(-1, codes[:, -1, ..., None])[..., 0].log()
    return torch.stack([row[mask].mean() for row, mask in zip(nats, hidden, strict=True)])


def test_held_out_losses_are_those_of_a_picture_of_which_nothing_is_known(decoder, inputs):
    state, codes = inputs
    losses = decoder.losses(state, {"codes": codes})
    everything = torch.ones_like(codes[:, -1], dtype=torch.bool)
    assert losses.shape == (5,) and torch.allclose(losses, nats_of(decoder, state, codes, everything), rtol=1e-4)
    assert not torch.allclose(losses[0], losses[1])


def hidden_in_training(decoder, monkeypatch, state, codes):
    """The losses (B,) of a training step without dropout, and which codes (B, G, G) were hidden."""
    decoder.training = True
    read, seen = decoder._read, []
    monkeypatch.setattr(decoder, "_read", lambda *given: seen.append(given[2]) or read(*given))
    torch.manual_seed(0)
    losses = decoder.losses(state, {"codes": codes})
    hidden = seen[0] == CODES
    assert torch.equal(seen[0][~hidden], codes[:, -1][~hidden])
    return losses, hidden


def test_training_hides_some_codes_and_scores_only_those(decoder, inputs, monkeypatch):
    state, codes = (part.repeat(60, *[1] * (part.dim() - 1)) for part in inputs)
    losses, hidden = hidden_in_training(decoder, monkeypatch, state, codes)
    counts = hidden.sum((1, 2))
    assert counts.min() == 1 and counts.max() == SIDE**2 and len(counts.unique()) > 10
    assert 0.55 < hidden.float().mean() < 0.72  # the mean of a cosine over a quarter turn is 0.64
    assert torch.allclose(losses, nats_of(decoder, state, codes, hidden), rtol=1e-4)


def test_of_a_large_picture_some_hidden_codes_are_scored(decoder, inputs, monkeypatch):
    """With a limit of one, the loss of a window is that of one of its hidden codes."""
    monkeypatch.setattr(decoders, "SCORED_CODES", 1)
    state, codes = (part[:1].expand(50, *part.shape[1:]) for part in inputs)
    losses, hidden = hidden_in_training(decoder, monkeypatch, state, codes)
    probabilities = decoder.probabilities(state, codes[:, :-1], codes[:, -1].masked_fill(hidden, CODES))
    nats = -probabilities.gather(-1, codes[:, -1, ..., None])[..., 0].log()
    distance = (nats - losses[:, None, None]).abs().masked_fill(~hidden, torch.inf).flatten(1)
    assert (distance.amin(1) < 1e-4).all() and len(distance.argmin(1).unique()) > 5


def test_gradients_reach_the_state_and_every_weight_but_the_tokenizer(decoder, inputs):
    state, codes = inputs
    state.requires_grad_()
    decoder.train().losses(state, {"codes": codes}).sum().backward()
    assert state.grad.any(-1).all()
    trained = {name: parameter.grad for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.any()] == []
    assert not any(name.startswith("tokenizer") for name in trained)


# Where a code stands


def test_squares_of_codes_are_read_and_written_at_their_places(decoder, inputs):
    state, codes = inputs
    given = []
    decoder.read_codes.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    decoder._read(state, codes[:, :-1], codes[:, -1])
    size, half = decoders.CODE_WIDTH, SIDE // 2
    squares = given[0].view(5, half, half, FRAMES + 1, 2, 2, size)
    for row in range(SIDE):
        for column in range(SIDE):
            read = squares[:, row // 2, column // 2, :, row % 2, column % 2]
            assert torch.equal(read, decoder.embedding(codes[:, :, row, column]))
    whole = decoder._places(squares[:, :, :, 2].flatten(3).flatten(1, 2))
    assert torch.equal(whole, decoder.embedding(codes[:, 2]))


def test_a_chosen_source_is_copied_code_by_code(decoder, inputs):
    """Each of the four places of a square copies from a picture of its own."""
    state, codes = inputs
    sources = torch.tensor([[0, 1], [2, 0]])
    decoder.choice.bias.data.view(2, 2, FRAMES + 1)[:] = 200 * torch.eye(FRAMES + 1)[sources]
    drawn = decoder._codes(state, codes[:, :-1], None)
    for row in range(SIDE):
        for column in range(SIDE):
            assert torch.equal(drawn[:, row, column], codes[:, sources[row % 2][column % 2], row, column])


# How a picture is drawn


@pytest.mark.parametrize("frame", range(FRAMES))
def test_a_picture_that_stays_is_copied_to_its_pixels(decoder, inputs, frame):
    state, codes = inputs
    batch = batch_of(codes)
    decoder.choice.bias.data.view(4, FRAMES + 1)[:, frame] = 200
    expected = batch["context_pictures"][:, frame]
    assert torch.allclose(decoder.draw(state, batch), expected, atol=1e-5)
    assert torch.allclose(decoder.sample(state, batch, 2, seeded(0)), torch.stack([expected] * 2, 1), atol=1e-5)


def test_a_new_code_is_drawn_as_the_tokenizer_shows_it_unless_the_context_has_it_there(decoder, inputs):
    """The left half of two context pictures has the new code: its pixels are those of the likelier source."""
    state, codes = inputs
    decoder.bias.data[7] = 100
    decoder.choice.weight.data.zero_()
    decoder.choice.bias.data.view(4, FRAMES + 1)[:] = torch.tensor([1.0, 2.0, 3.0, 50.0])
    codes[codes == 7] = 8
    codes[:, :2, :, : SIDE // 2] = 7
    batch = batch_of(codes)
    drawn = decoder.draw(state, batch)
    plain, shown = decoder.tokenizer.decode(torch.full_like(codes[:, 0], 7)), decoder.tokenizer.decode(codes[:, 1])
    half = SIZE // 2
    assert torch.allclose(drawn[..., half:], plain[..., half:], atol=1e-5)
    expected = plain + batch["context_pictures"][:, 1] - shown
    assert torch.allclose(drawn[..., :half], expected[..., :half].clamp(0, 1), atol=1e-5)


def test_the_target_reaches_no_picture(decoder, inputs):
    state, codes = inputs
    batch = batch_of(codes)
    other = batch | {"codes": torch.cat([codes[:, :-1], codes[:, -1:].flip(0)], 1)}
    for draw in (decoder.draw, lambda *given: decoder.sample(*given, 2, seeded(0))):
        assert torch.equal(draw(state, batch), draw(state, other))
        assert torch.equal(draw(state, batch), draw(state, batch | {"codes": codes[:, :-1]}))


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_every_size_is_drawn(untrained, size):
    decoder = TokenDecoder(WIDTH, FRAMES, size).eval()
    codes = torch.randint(CODES, (1, FRAMES, size // CELL, size // CELL), generator=seeded(0))
    picture = decoder.draw(torch.zeros(1, WIDTH), batch_of(codes))
    assert picture.shape == (1, 3, size, size) and picture.min() >= 0 and picture.max() <= 1


@pytest.mark.parametrize("generator", [None, seeded(0)], ids=["likeliest", "random"])
def test_codes_become_known_step_by_step_and_stay(decoder, inputs, monkeypatch, generator):
    state, codes = inputs
    seen, probabilities = [], decoder.probabilities
    monkeypatch.setattr(decoder, "probabilities", lambda *given: seen.append(given[2]) or probabilities(*given))
    final = decoder._codes(state, codes[:, :-1], generator)
    assert len(seen) == DRAWING_STEPS and (final < CODES).all()
    counts = []
    for before, after in zip(seen, [*seen[1:], final], strict=True):
        known = before < CODES
        assert torch.equal(after[known], before[known])
        counts.append(known.sum((1, 2)).unique().tolist())
    share = [math.cos(math.pi / 2 * step / DRAWING_STEPS) for step in range(DRAWING_STEPS)]
    assert counts == [[SIDE**2 - int(SIDE**2 * part + 1e-9)] for part in share]


def test_the_likeliest_picture_starts_with_the_surest_code(decoder, inputs, monkeypatch):
    state, codes = inputs
    seen, probabilities = [], decoder.probabilities
    monkeypatch.setattr(decoder, "probabilities", lambda *given: seen.append(given[2]) or probabilities(*given))
    decoder._codes(state, codes[:, :-1], None)
    best, code = probabilities(state, codes[:, :-1], seen[0]).flatten(1, 2).max(-1)
    for row, place in enumerate(best.argmax(1)):
        known = seen[1][row].flatten()
        assert known[place] == code[row, place] and (known < CODES).sum() == 1


def test_random_codes_follow_the_probabilities(decoder, inputs, monkeypatch):
    """The codes that become known last, here the only ones that are unknown, at one place of many equal windows."""
    monkeypatch.setattr(decoders, "DRAWING_STEPS", 1)
    many = 3000
    state, codes = inputs[0][:1], inputs[1][:1]
    expected = decoder.probabilities(state, codes[:, :-1], unknown(codes[:, -1]))[0, 0, 0]
    monkeypatch.setattr(decoder, "probabilities", lambda *_: expected.expand(many, SIDE, SIDE, -1))
    drawn = decoder._codes(state, codes[:, :-1].expand(many, -1, -1, -1), seeded(0))[:, 0, 0]
    frequencies = torch.bincount(drawn, minlength=CODES) / many
    copied = codes[0, :-1, 0, 0]
    assert (frequencies - expected).abs().max() < 0.03 and expected[copied].sum() > 0.3
    assert frequencies[copied].sum().item() == pytest.approx(expected[copied].sum().item(), abs=0.03)


def test_samples_differ_from_each_other_and_follow_the_seed(decoder, inputs):
    state, codes = inputs
    before = torch.get_rng_state()
    one, same, other = (decoder.sample(state, batch_of(codes), 3, seeded(seed)) for seed in (0, 0, 1))
    assert one.shape == (5, 3, 3, SIZE, SIZE)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(not torch.equal(one[:, i], one[:, j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_samples_learn_both_possible_pictures(untrained):
    """One of two pictures follows the same state, none of them in the context: a sample is one of them as a whole."""
    decoder = untrained.train()
    steps, state = 80, torch.ones(32, WIDTH)
    optimizer = torch.optim.Adam([p for p in decoder.parameters() if p.requires_grad], 1e-2)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    target = torch.tensor(TWO).repeat(16).view(32, 1, 1, 1).expand(-1, 1, SIDE, SIDE)
    codes = torch.cat([torch.ones(32, FRAMES, SIDE, SIDE, dtype=torch.long), target], 1)
    for _ in range(steps):
        loss = decoder.losses(state, {"codes": codes}).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    with torch.inference_mode():
        drawn = decoder.eval()._codes(state, codes[:, :-1], seeded(0))
    one, other = ((drawn == code).float().mean((1, 2)).gt(0.9).float().mean() for code in TWO)
    assert one > 0.15 and other > 0.15 and one + other > 0.8


# The upsampling decoder


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_upsampling_draws_from_the_state_alone(size):
    torch.manual_seed(0)
    decoder, state = UpsamplingDecoder(WIDTH, FRAMES, size), torch.randn(2, WIDTH)
    picture = decoder.draw(state, {})
    assert picture.shape == (2, 3, size, size) and not torch.equal(picture[0], picture[1])
    assert torch.equal(decoder.draw(state, {"picture": torch.rand(2, 3, size, size)}), picture)
    assert not hasattr(decoder, "sample")


def test_the_loss_of_upsampling_is_the_mean_absolute_error():
    decoder = UpsamplingDecoder(WIDTH, FRAMES, SIZE)
    decoder.paint.weight.data.zero_()
    decoder.paint.bias.data.fill_(0.25)  # every pixel is 0.75
    picture = torch.zeros(2, 3, SIZE, SIZE)
    picture[1, :, :4] = 1.0
    losses = decoder.losses(torch.randn(2, WIDTH), {"picture": picture})
    assert losses.tolist() == pytest.approx([0.75, 0.75 * 0.75 + 0.25 * 0.25])


def test_gradients_of_upsampling_reach_the_state_and_drawn_pixels_stay_in_range():
    torch.manual_seed(0)
    decoder, state = UpsamplingDecoder(WIDTH, FRAMES, SIZE), torch.randn(2, WIDTH, requires_grad=True)
    decoder.paint.bias.data[:2] = torch.tensor([30.0, -30.0])
    decoder.losses(state, {"picture": torch.rand(2, 3, SIZE, SIZE)}).sum().backward()
    assert state.grad.any(-1).all()
    picture = decoder.draw(state, {})
    assert picture.min() == 0 and picture.max() == 1
