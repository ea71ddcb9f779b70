"""What a training may be told: special tokens and their roles, a veto, parity across languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from anyvocab import _core, errors
from anyvocab.roles import Declarations

__all__ = [
    "Alphabet",
    "Parity",
    "Special",
    "SpecialTable",
    "SpecialTokens",
    "TrainOptions",
    "Veto",
    "special_tokens_of",
]

# transformers has a `<role>_token` for these; others stand among its extra special tokens.
_NAMED_ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")


@dataclass(frozen=True)
class Veto:
    """Which tokens may not be learnt; a pair that would make one is skipped for ever.

    Attributes:
        max_words: Most words: pieces between spaces that are not empty.
        max_bytes: Most bytes.
        max_chars: Most characters; of a token that begins or ends inside one, those that begin
            in it.
        max_digits: Most digits, of any script; 0 keeps digits out of every learnt token.
        digits_apart: Whether digits and letters never share a token.
        one_script: Whether letters of two scripts never share a token; kana and Han are one.
        inside: Texts that no token holds, such as ": ".
        pattern: A regular expression, in Oniguruma's syntax, that matches nowhere in a token.

    >>> Veto(max_words=1).forbids(b"of the")
    True
    """

    max_words: int | None = None
    max_bytes: int | None = None
    max_chars: int | None = None
    max_digits: int | None = None
    digits_apart: bool = False
    one_script: bool = False
    inside: Sequence[str | bytes] = ()
    pattern: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no token could keep to."""
        least = {"max_words": 1, "max_bytes": 1, "max_chars": 1, "max_digits": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be at least {low}, got {value}",
                    field=f"veto.{name}",
                    fix="leave it out for no bound",
                )
        if isinstance(self.inside, str):
            raise TypeError("veto.inside must be several texts, got one; write (text,)")
        self.compiled()

    def compiled(self) -> _core.Veto:
        """Return the rules as the core has them."""
        return _core.Veto(
            max_words=self.max_words,
            max_bytes=self.max_bytes,
            max_chars=self.max_chars,
            max_digits=self.max_digits,
            digits_apart=self.digits_apart,
            one_script=self.one_script,
            inside=[one.encode() if isinstance(one, str) else one for one in self.inside],
            pattern=self.pattern,
        )

    def forbids(self, token: bytes) -> bool:
        """Return whether a token may not be learnt."""
        return self.compiled().forbids(token)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is forbidden."""
        return all(getattr(self, one.name) == one.default for one in fields(self))


@dataclass(frozen=True)
class Parity:
    """Merges chosen by the language whose text takes the most tokens for its size.

    At each step that language's most frequent pair is merged, in all languages. The result is a
    plain list of merges.

    Source: Foroutan et al. 2025, arXiv:2508.04796.

    Attributes:
        measured: For each language the text that is only measured, any corpus: best the parts of a
            parallel corpus. Without it, what a language learns from is measured.
        sizes: For each language the size that its tokens are divided by. Left out: 1 for parallel
            texts, else the bytes of the text, before the normalizer.
        global_merges: So many merges are chosen by the sum over all languages first.
        window: Of the last so many choices, no language has more than `share` times an equal part;
            0 for no such bound. It keeps a language that cannot get better from taking every turn.
        share: See `window`; at least 1.
    """

    measured: Mapping[str, Any] | None = None
    sizes: Mapping[str, float] | None = None
    global_merges: int = 0
    window: int = 0
    share: float = 2.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("global_merges", "window"):
            if getattr(self, name) < 0:
                raise errors.build(
                    errors.InvalidValue,
                    f"must not be negative, got {getattr(self, name)}",
                    field=f"parity.{name}",
                    fix="use 0 for none",
                )


@dataclass(frozen=True)
class Special:
    """A special token and what it is for.

    Attributes:
        text: Its spelling.
        role: `bos`, `eos`, `pad`, `fim_prefix`, ...; `None` when only its spelling says.
    """

    text: str
    role: str | None = None


SpecialTokens: TypeAlias = "Sequence[str | Special | tuple[str, str]] | Mapping[str, str]"


@dataclass(frozen=True)
class SpecialTable:
    """Special tokens in the order of their ids, and their roles.

    Attributes:
        texts: Their spellings, each once: ids 0, 1, 2, ...
        roles: Role to spelling.
    """

    texts: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)

    def declarations(self) -> Declarations:
        """Return what `tokenizer_config.json` says about them."""
        config: dict[str, object] = {
            f"{role}_token": text for role, text in self.roles.items() if role in _NAMED_ROLES
        }
        extra = {f"{r}_token": text for r, text in self.roles.items() if r not in _NAMED_ROLES}
        if extra:
            config["extra_special_tokens"] = extra
        return Declarations(tokenizer_config=config)


def special_tokens_of(given: SpecialTokens) -> SpecialTable:
    """Return special tokens as a table.

    One token may have several roles (`{"eos": "<|end|>", "pad": "<|end|>"}`); a role has one token.

    Args:
        given: Spellings; or pairs of a role and a spelling; or a mapping from roles to spellings.
            Ids are given in this order.

    Raises:
        InvalidValue: A spelling is empty or there twice, or a role has two spellings.

    >>> special_tokens_of({"eos": "<|end|>", "pad": "<|end|>"}).texts
    ('<|end|>',)
    """
    if isinstance(given, str):
        raise TypeError("special_tokens must be several texts, got one; write (text,)")
    items: Iterable[object] = given.items() if isinstance(given, Mapping) else given
    texts: list[str] = []
    roles: dict[str, str] = {}
    plain: set[str] = set()
    for number, one in enumerate(items):
        special = _special(one)
        where = f"special_tokens[{number}]"
        if not special.text:
            raise errors.build(
                errors.InvalidValue, "an empty text", field=where, fix="leave it out"
            )
        if special.role is None:
            if special.text in texts:
                raise errors.build(
                    errors.InvalidValue,
                    f"{special.text!r} is there twice",
                    field=where,
                    fix="leave one of them out",
                )
            plain.add(special.text)
        elif special.role in roles:
            raise errors.build(
                errors.InvalidValue,
                f"the role {special.role!r} has {roles[special.role]!r} already, "
                f"and {special.text!r} now",
                field=where,
                fix="give a role one token",
            )
        else:
            if special.text in plain:
                raise errors.build(
                    errors.InvalidValue,
                    f"{special.text!r} is there twice, once without a role",
                    field=where,
                    fix="leave out the one without",
                )
            roles[special.role] = special.text
        if special.text not in texts:
            texts.append(special.text)
    return SpecialTable(tuple(texts), roles)


def _special(one: object) -> Special:
    if isinstance(one, Special):
        return one
    if isinstance(one, str):
        return Special(one)
    if isinstance(one, tuple) and len(one) == 2 and all(isinstance(part, str) for part in one):
        role, text = one
        return Special(text, role)
    raise TypeError(
        f"a special token is a text, a Special or a pair (role, text), got {type(one).__name__}"
    )


Alphabet: TypeAlias = Literal["bytes", "seen"] | bytes


@dataclass(frozen=True)
class TrainOptions:
    """What is learnt from counts; the attributes are those of :func:`anyvocab.train`."""

    vocab_size: int = 32_000
    min_frequency: int = 2
    special_tokens: SpecialTable = field(default_factory=SpecialTable)
    initial_alphabet: Alphabet = "bytes"
    limit_alphabet: int | None = None
    veto: Veto | None = None
    seed_tokens: tuple[bytes, ...] = ()
    max_token_bytes: int | None = None
    max_token_length: int | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        for name, low in (
            ("vocab_size", 1),
            ("min_frequency", 0),
            ("limit_alphabet", 1),
            ("max_token_bytes", 1),
            ("max_token_length", 0),
            ("memory_bytes", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be at least {low}, got {value}",
                    field=name,
                    fix="give a larger number",
                )
        if self.max_token_bytes is not None and self.max_token_length is not None:
            raise errors.build(
                errors.InvalidValue,
                "a bound beside max_token_bytes",
                field="max_token_length",
                fix="give one of the two",
            )
        if isinstance(self.initial_alphabet, str) and self.initial_alphabet not in (
            "bytes",
            "seen",
        ):
            raise errors.build(
                errors.InvalidValue,
                f"{self.initial_alphabet!r} is no choice",
                field="initial_alphabet",
                fix='use "bytes", "seen" or a bytes object',
            )
        if b"" in self.seed_tokens:
            raise errors.build(
                errors.InvalidValue, "an empty text", field="seed_tokens", fix="leave it out"
            )

    @property
    def alphabet(self) -> bytes:
        """The bytes that have tokens whether they occur or not."""
        if self.initial_alphabet == "bytes":
            return bytes(range(256))
        return b"" if self.initial_alphabet == "seen" else bytes(self.initial_alphabet)
