"""What a model has to be so that merged batches can be read with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from anyvocab import errors
from anyvocab.hypernet.body import positions_of

if TYPE_CHECKING:
    from anyvocab.dynamic.rows import RowMaker
    from anyvocab.dynamic.tokenizer import DynamicTokenizer
    from anyvocab.hypernet.predict import SourceModel

__all__ = [
    "BaseRows",
    "base_rows_of",
    "check_reading",
    "evaluating",
    "kind_of",
    "positions_of",
    "source_of",
]

BaseRows = Literal["source", "predicted"]
# Ids and rows go through the same products: what is apart is rounding of the model's own type.
_TOLERANCE = 2e-2


def kind_of(network: Any) -> Literal["causal", "encoder"]:
    """Return what a model does with a text.

    Raises:
        InvalidValue: It is an encoder-decoder.
    """
    from anyvocab.evaluate.models import model_kind

    config = network.config.to_dict()
    config["architectures"] = [type(network).__name__]
    kind = model_kind(config)
    if kind == "encoder-decoder":
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} is an encoder-decoder",
            field="model",
            fix="give a causal or a masked model, or a classifier",
        )
    return kind


def source_of(network: Any, tokenizer: DynamicTokenizer) -> SourceModel:
    """Return a model's tokenizer and matrices, which are not copied.

    Raises:
        InvalidValue: It has no input matrix, or fewer rows than the tokenizer has ids.
    """
    from anyvocab.hypernet.predict import SourceModel
    from anyvocab.hypernet.rows import SourceRows

    reads = network.get_input_embeddings()
    if getattr(reads, "weight", None) is None:
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} has no single matrix of input embeddings",
            field="model",
            fix="give a text model whose get_input_embeddings() is a torch.nn.Embedding",
        )
    writes = network.get_output_embeddings()
    untied = writes is not None and writes.weight is not reads.weight
    bias = getattr(writes, "bias", None)
    rows = SourceRows(
        reads.weight.detach(),
        writes.weight.detach() if untied else None,
        None if bias is None else bias.detach(),
    )
    needed = len(tokenizer.tokenizer.vocabulary)
    if needed > len(rows):
        raise errors.build(
            errors.InvalidValue,
            f"the tokenizer has {needed} ids and the model rows for {len(rows)}",
            field="tokenizer",
            fix="give the model's own tokenizer",
        )
    return SourceModel(tokenizer.tokenizer, rows)


def base_rows_of(chosen: str, maker: RowMaker, source: SourceModel) -> Any:
    """Return predicted rows of all base tokens, (V, D); None for the model's own.

    Raises:
        InvalidValue: `chosen` is none of the two.
    """
    import torch

    errors.check_choice("base_rows", chosen, get_args(BaseRows))
    if chosen == "source":
        return None
    from anyvocab.hypernet.predict import text_ids
    from anyvocab.transplant.identity import token_table

    ids, table = text_ids(source.tokenizer), token_table(source.tokenizer.vocabulary)
    made = source.rows.input.clone()  # what has no bytes keeps its row
    found = maker([table[id] or b"" for id in ids.tolist()]).input
    made[torch.from_numpy(ids).to(made.device)] = found.to(made.device, made.dtype)
    return made


def check_reading(network: Any, ids: Sequence[int]) -> None:
    """Refuse a model that reads rows otherwise than ids.

    Args:
        network: The model.
        ids: Some text.

    Raises:
        InvalidValue: What it computes is apart by more than rounding.
    """
    import torch

    table = network.get_input_embeddings()
    given = torch.tensor([list(ids)], device=table.weight.device)
    mask = torch.ones_like(given)
    with torch.no_grad(), evaluating(network):
        plain = network(input_ids=given, attention_mask=mask)[0].double()
        try:
            found = network(inputs_embeds=table(given), attention_mask=mask)[0].double()
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise errors.build(
                errors.InvalidValue,
                f"{type(network).__name__} fails when it is given inputs_embeds and no ids: "
                f"{str(error).strip().partition(chr(10))[0]}",
                field="model",
                fix="give a model of transformers that can be called with inputs_embeds alone",
            ) from error
    apart = float((plain - found).abs().max())
    if not apart <= _TOLERANCE * float(plain.abs().max()):
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} computes from inputs_embeds what is up to {apart:.3g} from "
            "what it computes from ids",
            field="model",
            fix="it needs the ids elsewhere, too, and cannot read tokens that have none",
        )


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Let a model evaluate, without dropout; afterwards it does what it did."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
