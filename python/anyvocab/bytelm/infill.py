"""Fill in the middle: the text between a prefix and a suffix, each cut anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from anyvocab import errors
from anyvocab.bytelm.baselines import BACKOFF, Sampler, generate, heal, prompt_ids
from anyvocab.bytelm.context import Each, Ids
from anyvocab.bytelm.edges import encode_spelled
from anyvocab.bytelm.fim import FimPrompt, FimTemplate
from anyvocab.bytelm.fim_families import choose_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyvocab.bytelm.context import Context
    from anyvocab.bytelm.lm import Policy

__all__ = ["ANCHOR_BYTES", "Infill", "Mode", "Stop", "infill", "suffix_anchor"]

Mode = Literal["bytes", "tokens", "healing"]
Stop = Literal["suffix", "end"]

ANCHOR_BYTES: Final = 6
"""How many bytes that are no white space an anchor has at least: `)` alone is everywhere."""

_SPACE: Final = b" \t\n\r\f\v"


@dataclass(frozen=True)
class Infill:
    """A middle.

    Attributes:
        bytes: What stands between prefix and suffix: what was written, up to where it ends.
        logprob: Of all that was written, in nats: also of the end, and of what ran into the suffix
            and was cut off. In the token-level modes, of the ids that were chosen.
        finish: `end`: the model ended it; `stop`: it ran into the suffix or a stop string, and was
            cut off there; `length`: the budget was used up.
        template: What the model was asked with.
        mode: `bytes`, `tokens` or `healing`.
    """

    bytes: bytes
    logprob: float
    finish: str
    template: FimTemplate
    mode: Mode

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON; bytes that are not UTF-8 are escaped."""
        return {
            "text": self.bytes.decode("utf-8", "backslashreplace"),
            "logprob": self.logprob,
            "finish": self.finish,
            "template": self.template.label,
            "mode": self.mode,
        }


def suffix_anchor(suffix: bytes) -> bytes | None:
    r"""Return what shows that a text has run into its suffix; None where nothing would.

    The suffix from its start to the end of a line, newline included: as few lines as hold
    `ANCHOR_BYTES` bytes that are no white space, which is the first line that is not blank unless
    that one is very short. None where the whole suffix holds fewer: a middle would be cut off at
    its first bracket.

    >>> suffix_anchor(b"\n    return x\n\nclass A:\n"), suffix_anchor(b")\n")
    (b'\n    return x\n', None)
    """
    seen = at = 0
    while at < len(suffix):
        found = suffix.find(b"\n", at)
        end = len(suffix) if found < 0 else found + 1
        seen += sum(byte not in _SPACE for byte in suffix[at:end])
        if seen >= ANCHOR_BYTES:
            return suffix[:end]
        at = end
    return None


def infill(
    lm: Any,
    prefix: bytes | str,
    suffix: bytes | str,
    *,
    template: FimTemplate | str | None = None,
    mode: Mode = "bytes",
    max_new_tokens: int = 128,
    max_bytes: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    stop: Stop = "suffix",
    stop_strings: Sequence[bytes] = (),
    backoff: int = BACKOFF,
) -> Infill:
    """Return the text between `prefix` and `suffix`, by the model's own template.

    Both may be cut anywhere, inside a token and inside a character: with `mode="bytes"` the middle
    is a completion of the prefix's last bytes over every encoding of them
    (:mod:`anyvocab.bytelm.fim` says what is done at which edge, and why).

    Args:
        lm: A byte-level model; the token-level modes use its `tokenizer` and `backend` alone.
        prefix: The text before.
        suffix: The text behind.
        template: How the model is asked; found in its vocabulary when left out. A name chooses
            among those found: `spm`, `starcoder/psm`.
        mode: `bytes`: exact; `tokens`: the prompt's own tokens are gone on from; `healing`: its
            last tokens are spelled anew (:mod:`anyvocab.bytelm.baselines`).
        max_new_tokens: The most ids that are written.
        max_bytes: The most bytes.
        temperature: 0 takes the most probable.
        top_p: The share of probable continuations that is kept.
        top_k: How many are kept.
        seed: Of the choices.
        stop: `suffix`: also where the text runs into the suffix, at its anchor
            (:func:`suffix_anchor`), which is cut off; `end`: at the model's end alone. A middle
            that holds the anchor itself, a line that comes twice, is cut off too early.
        stop_strings: Where one of these appears the middle ends before it.
        backoff: How many tokens healing takes off at most.

    Raises:
        UnsupportedTokenizer: The tokenizer has no marks, or marks of no known family.
        InvalidValue: Marks of several families, or a value out of range.
    """
    before, after = _bytes(prefix), _bytes(suffix)
    for name, value, known in (("mode", mode, get_args(Mode)), ("stop", stop, get_args(Stop))):
        if value not in known:
            raise errors.build(
                errors.InvalidValue, f"{value!r} is no choice", field=name, fix=", ".join(known)
            )
    if backoff < 0:
        raise errors.build(
            errors.InvalidValue, f"must be 0 or more, got {backoff}", field="backoff"
        )
    chosen = choose_template(_first(lm).tokenizer, template)
    anchor = suffix_anchor(after) if stop == "suffix" else None
    stops = [*stop_strings, *([] if anchor is None else [anchor])]
    if mode == "bytes":
        writer, context, prompt = byte_context(lm, chosen, before, after)
        done = writer.complete(
            context,
            max_new_tokens=max_new_tokens,
            max_bytes=max_bytes,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stops,
        )
    else:
        prompt = baseline_prompt(lm, chosen, before, after, mode)
        ids, pending = baseline_ids(lm, prompt, mode, backoff=backoff)
        done = generate(
            lm,
            ids,
            pending=pending,
            ends=chosen.end_ids,
            sampler=Sampler(temperature, top_p, top_k, seed),
            max_new_tokens=max_new_tokens,
            max_bytes=max_bytes,
            stop=stops,
        )
    middle, finish = _trim(done.bytes, done.finish, stops, prompt.closing)
    return Infill(middle, done.logprob, finish, chosen, mode)


def byte_context(
    lm: Any, template: FimTemplate, prefix: bytes, suffix: bytes
) -> tuple[Any, Context | Each, FimPrompt]:
    """Return a model whose text ends where the template's middle does, its context, the prompt.

    Every member of an ensemble is asked by its own template: by this one where its vocabulary has
    the same marks, else by the one that is found there.
    """
    from anyvocab.bytelm.ensemble import Ensemble

    prompt = template.prompt(prefix, suffix, tokenizer=_first(lm).tokenizer)
    if not isinstance(lm, Ensemble):
        ends: dict[int | str, Policy] = {id: "end" for id in template.end_ids if id not in lm.ends}
        writer = lm.with_specials(ends) if ends else lm
        return writer, [Ids(writer.first_ids), *prompt.parts()], prompt
    writers: list[Any] = []
    contexts: list[Any] = []
    for member in lm.members:
        own = (
            template if member is lm.members[0] else choose_template(_first(member).tokenizer, None)
        )
        writer, context, _ = byte_context(member, own, prefix, suffix)
        writers.append(writer)
        contexts.append(context)
    return lm.with_members(writers), Each(contexts), prompt


def _first(lm: Any) -> Any:
    """Return the model, or the first member of an ensemble."""
    members = getattr(lm, "members", None)
    return _first(members[0]) if members else lm


def baseline_prompt(
    lm: Any, template: FimTemplate, prefix: bytes, suffix: bytes, mode: Mode
) -> FimPrompt:
    """Return the prompt of a token-level mode: as it is cut, or with the edges that are healed."""
    if mode == "tokens":
        return template.plain_prompt(prefix, suffix)
    return template.prompt(prefix, suffix, tokenizer=lm.tokenizer)


def baseline_ids(
    lm: Any, prompt: FimPrompt, mode: Mode, *, backoff: int = BACKOFF
) -> tuple[list[int], bytes]:
    """Return the context of a token-level mode, and the bytes that it has to spell first."""
    ids = prompt_ids(lm, prompt)
    if mode == "tokens" or not prompt.open:
        return ids, b""
    return heal(lm.tokenizer, ids, len(encode_spelled(lm.tokenizer, prompt.open)), backoff=backoff)


def _trim(written: bytes, finish: str, stops: Sequence[bytes], closing: bytes) -> tuple[bytes, str]:
    """Return the middle in what was written: up to the first stop string, without `closing`."""
    found = [at for at in (written.find(one) for one in stops) if at >= 0]
    if found:
        return written[: min(found)], "stop"
    # The rest of the suffix's first character is the suffix's; a stop string begins with it.
    if closing and finish == "end" and written.endswith(closing):
        written = written[: -len(closing)]
    return written, finish


def _bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
