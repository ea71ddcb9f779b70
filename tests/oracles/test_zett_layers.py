"""The layers of the ZeTT network against the RoBERTa of transformers, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="torch is missing")
transformers = pytest.importorskip("transformers", reason="transformers is missing")

from anyvocab.hypernet.zett import Encoder, Layer, ZettConfig  # noqa: E402

CONFIG = ZettConfig(width=8, tied=True, source_rows=10, pad_id=1, hidden=96, inner=80, heads=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def roberta(attention: str) -> transformers.RobertaModel:
    """Return a random RoBERTa of roberta-base's kind and these sizes, as the authors' module."""
    torch.manual_seed(3)
    config = transformers.RobertaConfig(
        vocab_size=CONFIG.pad_id + 1,
        hidden_size=CONFIG.hidden,
        intermediate_size=CONFIG.inner,
        num_attention_heads=CONFIG.heads,
        num_hidden_layers=CONFIG.layers,
        max_position_embeddings=CONFIG.positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        attn_implementation=attention,
    )
    model = transformers.RobertaModel(config, add_pooling_layer=False).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def states() -> tuple[torch.Tensor, torch.Tensor]:
    """Return states (N, T, h) and which are seen, each token's first among them."""
    torch.manual_seed(4)
    seen = torch.arange(7)[None] < torch.tensor([1, 2, 7, 5])[:, None]
    return torch.randn(4, 7, CONFIG.hidden, dtype=torch.float64), seen


def agree(made: torch.Tensor, wanted: torch.Tensor) -> None:
    """12 sums of at most 96 terms in a row, each off by a rounding a term, which go both ways."""
    amount = 12 * 96**0.5 * 2 * torch.finfo(torch.float64).eps  # norms may double it
    assert float((made - wanted).abs().max()) <= amount * float(wanted.abs().max())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_encoder_is_roberta_with_positions_from_0(attention: str) -> None:
    model, (x, seen) = roberta(attention), states()
    ours = Encoder(CONFIG).double()
    theirs = {
        name: one for name, one in model.state_dict().items() if "word_embeddings" not in name
    }
    ours.load_state_dict(theirs)  # every name is theirs
    with torch.no_grad():
        made = ours(x, seen, None)
        wanted = model(
            inputs_embeds=x,
            attention_mask=seen,
            position_ids=torch.arange(x.shape[1]).expand(len(x), -1),
        ).last_hidden_state
    agree(made, wanted[:, 0])


def test_a_layer_is_a_roberta_layer() -> None:
    model, (x, seen) = roberta("eager"), states()
    theirs = model.encoder.layer[0]
    ours = Layer(CONFIG).double()
    ours.load_state_dict(theirs.state_dict())
    mask = torch.zeros(seen.shape, dtype=x.dtype)
    mask = mask.masked_fill(~seen, torch.finfo(x.dtype).min)[:, None, None]
    with torch.no_grad():
        agree(ours(x, mask), theirs(x, mask))


def test_a_language_is_one_more_state_without_a_place() -> None:
    model, (x, seen) = roberta("eager"), states()
    ours = Encoder(CONFIG).double()
    ours.load_state_dict(
        {name: one for name, one in model.state_dict().items() if "word_embeddings" not in name}
    )
    language = torch.randn(1, CONFIG.hidden, dtype=torch.float64)
    tables = model.embeddings
    with torch.no_grad():
        # RoBERTa gives every state a type and a place: what it will add is taken off beforehand.
        bare = language - tables.token_type_embeddings.weight - tables.position_embeddings.weight[7]
        wanted = model(
            inputs_embeds=torch.cat((x, bare.expand(len(x), 1, -1)), dim=1),
            attention_mask=torch.cat((seen, torch.ones(len(x), 1, dtype=torch.bool)), dim=1),
            position_ids=torch.arange(8).expand(len(x), -1),
        ).last_hidden_state
        made = ours(x, seen, language.expand(len(x), -1))
    agree(made, wanted[:, 0])
