"""The parts of the comparison page that are about one question each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from anyvocab.report.page import table, text
from anyvocab.report.svg import Mark, bar, dots, legend, parted, strip
from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from anyvocab.evaluate.tokenizers import (
        AnswerLetters,
        Places,
        Scaffolds,
        Seen,
        TokenizerComparison,
        TokenizerScore,
    )
    from anyvocab.evaluate.tokenizers.boundaries import Torn

__all__ = [
    "against",
    "boundaries_html",
    "colour",
    "fairness_html",
    "lengths_html",
    "letters_html",
    "mark",
    "model_html",
    "names_legend",
    "tokens_html",
    "words_html",
]

COLOURS = "abcdegf"
WORDS = ("none", "1 word", "2", "3", "4 or more")
WORD_COLOURS = "facbd"
LAST_LENGTH = 24
SHOWN = 12  # tokens of a list
TORN = 6


def colour(number: int) -> str:
    """Return the colour of the tokenizer with a number."""
    return COLOURS[number % len(COLOURS)]


def mark(number: int, name: str, value: float, interval: tuple[float, float] | None = None) -> Mark:
    """Return a tokenizer's mark in a chart: a dot, or a diamond once all colours are taken."""
    shape = "dot" if number < len(COLOURS) else "diamond"
    return Mark(name, value, interval, colour(number), shape)


def names_legend(numbered: Iterable[tuple[int, str]]) -> str:
    """Return the names of tokenizers with their colours, diamonds said; none for a single one."""
    pairs = list(numbered)
    names = [name if number < len(COLOURS) else f"{name} ◆" for number, name in pairs]
    return legend(names, [colour(number) for number, _ in pairs]) if len(pairs) > 1 else ""


def _bars(html: str) -> str:
    return html.replace("<td><svg", '<td class="bars"><svg')


def words_html(comparison: TokenizerComparison) -> str:
    """Return how many words the tokens of the texts touch, and the vocabularies' own."""
    scores = comparison.tokenizers
    rows = []
    for one in scores:
        shares = [f"{share:.1%}" for share in one.usage.words.shares]
        rows.append(
            [
                text(one.name),
                *shares,
                parted(list(zip(WORDS, one.usage.words.tokens, strict=True)), WORD_COLOURS),
            ]
        )
    ids = [
        [
            text(one.name),
            *(
                f"{used:,}<br><small>of {held:,}</small>"
                for used, held in zip(one.usage.words.ids, one.usage.vocabulary_words, strict=True)
            ),
        ]
        for one in scores
    ]
    html = [
        '<p class="soft">Tokens of the texts by how many words they touch: stretches between white '
        "space with a letter or a digit. A piece of a word touches one; punctuation and white "
        "space touch none.</p>",
        legend(WORDS, WORD_COLOURS),
        _bars(table(["share of tokens", *WORDS, ""], rows, numbers=range(1, 6))),
        "<h3>Different tokens that occur, of those in the vocabulary</h3>",
        table(["", *WORDS], ids, numbers=range(1, 6)),
    ]
    if len(comparison.domains) > 1 and any(sum(one.usage.words.shares[2:]) for one in scores):
        several = [
            [
                text(domain.name),
                *(f"{sum(one.domains[d].words.shares[2:]):.1%}" for one in scores),
            ]
            for d, domain in enumerate(comparison.domains)
        ]
        html += [
            "<h3>Share of tokens with two words or more, by domain</h3>",
            table(["", *(one.name for one in scores)], several, numbers=range(1, len(scores) + 1)),
        ]
    return "".join(html)


def _shares(lengths: dict[int, int]) -> list[float]:
    """Return the shares of lengths 1 to `LAST_LENGTH`, everything longer in the last."""
    total = sum(lengths.values()) or 1
    shares = [0.0] * LAST_LENGTH
    for length, count in lengths.items():
        if length:
            shares[min(length, LAST_LENGTH) - 1] += count / total
    return shares


def _mean(lengths: dict[int, int]) -> float:
    return sum(n * count for n, count in lengths.items()) / (sum(lengths.values()) or 1)


def lengths_html(scores: Sequence[TokenizerScore]) -> str:
    """Return histograms of the lengths of tokens: of the vocabulary, and of the texts."""
    rows = []
    for one in scores:
        usage = one.usage
        pair = []
        for lengths in (usage.vocabulary_bytes, usage.token_bytes):
            mean = _mean(lengths)
            place = (min(mean, LAST_LENGTH) - 0.5) / LAST_LENGTH
            pair.append(f"{strip(_shares(lengths), 'a', mark=place)}{_ends()}")
        rows.append(
            [
                text(one.name),
                pair[0],
                f"{_mean(usage.vocabulary_bytes):.2f}<br><small>"
                f"{_mean(usage.vocabulary_characters):.2f} characters</small>",
                pair[1],
                f"{_mean(usage.token_bytes):.2f}<br><small>"
                f"{_mean(usage.token_characters):.2f} characters</small>",
            ]
        )
    columns = ["", "ids of the vocabulary, by bytes", "mean", "tokens of the texts", "mean"]
    grid = table(columns, rows, numbers=(2, 4))
    return (
        '<p class="soft">How many ids, and how many tokens of the texts, have each length in '
        "bytes. A line stands at the mean.</p>" + _bars(grid)
    )


def _ends() -> str:
    return f'<small class="ends"><span>1</span><span>{LAST_LENGTH}+</span></small>'


def _places(one: Places) -> str:
    return f"{one.share:.1%}<br><small>{one.torn:,} of {one.count:,}</small>"


def _tokens(tokens: Sequence[bytes]) -> str:
    return "".join(
        f'<span class="t{i % 4}">{text(one_line(token)) or "·"}</span>'
        for i, token in enumerate(tokens)
    )


def boundaries_html(scores: Sequence[TokenizerScore]) -> str:
    """Return how often a text's tokens change when the text goes on, with examples."""
    tried = [(one, one.boundaries) for one in scores if one.boundaries is not None]
    if not tried:
        return '<p class="soft">Not tried.</p>'
    top = max(found.words.share for _, found in tried) or 1.0
    rows = [
        [
            text(one.name),
            _places(found.words),
            bar(found.words.share / top, "b"),
            _places(found.spaces),
            _places(found.characters),
        ]
        for one, found in tried
    ]
    columns = ["", "ends of words", "", "after a space", "any character"]
    examples = [
        f"<h3>{text(one.name)}</h3>{_torn(found.examples)}"
        for one, found in tried
        if found.examples
    ]
    return "".join(
        [
            '<p class="soft">The share of places at which the tokens of the text so far are not '
            "how the tokens of the whole begin: there a prompt puts a model where it was never "
            "trained. Inside words that is so for every tokenizer; at the end of a word it is what "
            f"superwords cost. {tried[0][1].excerpts} excerpts, every place.</p>",
            _bars(table(columns, rows, numbers=(1, 3, 4))),
            "<details><summary>Examples at the end of a word</summary>"
            + "".join(examples)
            + "</details>"
            if examples
            else "",
        ]
    )


def _torn(examples: Sequence[Torn]) -> str:
    rows = [
        [
            f"{text(one_line(one.before))}<b>|</b>{text(one_line(one.after))}",
            f"<pre>{_tokens(one.prefix_tokens)}</pre>",
            f"<pre>{_tokens(one.whole_tokens)}</pre>",
        ]
        for one in examples[:TORN]
    ]
    return table(["text", "up to there", "with what follows"], rows)


def letters_html(scores: Sequence[TokenizerScore]) -> str:
    """Return the answer-letter test: which letters keep their tokens before what."""
    following = [one.following for one in scores[0].letters]
    rows = [
        [
            f"<code>Answer: A{text(one_line(after))}</code>",
            *(_verdict(one.letters[i]) for one in scores),
        ]
        for i, after in enumerate(following)
    ]
    columns = ["text", *(one.name for one in scores)]
    mixed = [
        f"<h3>{text(one.name)}</h3><pre>"
        + "\n".join(_tokens(tokens) for tokens in test.tokens)
        + "</pre>"
        for one in scores
        for test in [next((test for test in one.letters if test.verdict == "mixed"), None)]
        if test is not None
    ]
    return "".join(
        [
            '<p class="soft">The letters A to D whose tokens stay what they are when the text goes '
            "on. When some do and others do not, reading an answer by the probability of its "
            "letter compares unlike things.</p>",
            table(columns, rows),
            f'<div class="pair">{"".join(f"<div>{one}</div>" for one in mixed)}</div>'
            if mixed
            else "",
        ]
    )


def _verdict(one: AnswerLetters) -> str:
    if one.verdict == "mixed":
        return f'<span class="bad">only {text(one.kept)}</span>'
    return '<span class="good">all kept</span>' if one.verdict == "kept" else "all change"


def fairness_html(scores: Sequence[TokenizerScore], origin: str) -> str:
    """Return what the same content costs in every language."""
    found = [
        (number, one, one.fairness) for number, one in enumerate(scores) if one.fairness is not None
    ]
    languages = [one.language for one in found[0][2].languages]
    rows = []
    top = 1.0
    for i, language in enumerate(languages):
        marks = []
        for number, one, fair in found:
            premium = fair.languages[i].premium
            if premium is not None:
                marks.append(mark(number, one.name, premium))
                top = max(top, premium)
        rows.append((language, marks))
    body = []
    for _, one, fair in found:
        best, worst = fair.best, fair.worst
        lost = sum(each.premium is None for each in fair.languages)
        mean = fair.mean_premium
        body.append(
            [
                text(one.name),
                f"{fair.gini:.3f}",
                "–" if mean is None else f"{mean:.2f}",
                text("–" if best is None else best.language),
                text("–" if worst is None else f"{worst.language}, {worst.premium:.2f}"),
                f"{lost or ''}",
            ]
        )
    columns = ["", "Gini", "mean premium", "best", "worst", "mostly unknown"]
    where = f"{text(origin)}. " if origin else ""
    return "".join(
        [
            f'<p class="soft">{where}The premium of a language is its tokens over those of the '
            "language that the tokenizer treats best: 2 is twice the price and half the text in "
            "the same context. A language has none when over 1 % of it becomes the unknown "
            "token.</p>",
            names_legend((number, one.name) for number, one, _ in found),
            dots(rows, low=1.0, high=max(top * 1.03, 1.1), unit="premium"),
            table(columns, body, numbers=(1, 2, 5)),
        ]
    )


def tokens_html(scores: Sequence[TokenizerScore]) -> str:
    """Return how much of the vocabularies is used, unreachable tokens, and scaffolds."""
    rows = []
    for one in scores:
        usage, lost = one.usage, one.unreachable
        rows.append(
            [
                text(one.name),
                f"{usage.used:,}<br><small>of {usage.text_ids:,}</small>",
                bar(usage.used / max(1, usage.text_ids), "c"),
                *(f"{share:.1%}" for _, share in usage.top[:3]),
                f"{lost.count - lost.seen:,}",
                "–" if one.scaffolds is None else f"{one.scaffolds.count:,}",
            ]
        )
    tops = [f"top {k:,}" for k, _ in scores[0].usage.top[:3]]
    tops += ["top"] * (3 - len(tops))
    columns = ["", "ids that occur", "", *tops, "unreachable", "scaffolds"]
    for row in rows:  # a vocabulary of fewer than 1000 ids
        row[3:-2] = [*row[3:-2], "", "", ""][:3]
    lists = []
    for one in scores:
        parts = []
        if one.unreachable.examples:
            parts.append(f"<p>Unreachable: {_codes(one.unreachable.examples)}</p>")
        if one.scaffolds is not None and one.scaffolds.examples:
            parts.append(_scaffolds(one.scaffolds))
        if parts:
            lists.append(f"<div><h3>{text(one.name)}</h3>{''.join(parts)}</div>")
    return "".join(
        [
            '<p class="soft">How many ids the texts use, and which share of all tokens the most '
            "frequent are: more text uses more ids. Unreachable: tokens that their own text does "
            "not become, alone or between some characters, and that do not occur. Scaffolds: "
            "tokens that are made on the way to longer ones, of which at most a tenth is left.</p>",
            _bars(table(columns, rows, numbers=(1, 3, 4, 5, 6, 7))),
            f'<details><summary>Which tokens</summary><div class="pair">{"".join(lists)}</div>'
            "</details>"
            if lists
            else "",
        ]
    )


def _codes(tokens: Sequence[Seen]) -> str:
    return " ".join(f"<code>{text(one_line(one.token))}</code>" for one in tokens[:SHOWN])


def _scaffolds(found: Scaffolds) -> str:
    rows = [
        [f"<code>{text(one_line(one.token))}</code>", f"{one.made:,}", f"{one.left:,}"]
        for one in found.examples[:SHOWN]
    ]
    note = f"{found.count:,} of {found.judged:,} tokens that are made {found.least} times or more"
    return f"<p>Scaffolds: {note}.</p>{table(['token', 'made', 'left'], rows, numbers=(1, 2))}"


def model_html(comparison: TokenizerComparison) -> str:
    """Return what encoding costs, and what the vocabulary costs in a model."""
    scores, shape = comparison.tokenizers, comparison.shape
    first = scores[0]
    top = max((one.cost.flops for one in scores if one.is_encoded), default=1.0)
    rows = []
    for one in scores:
        cost = one.cost
        fewer = "" if one is first else against(one, first)
        rows.append(
            [
                text(one.name),
                f"{cost.rows:,}",
                "" if one is first else f"{cost.rows - first.cost.rows:+,}",
                fewer,
                f"{cost.row_parameters / 1e6:,.1f} M",
                f"{cost.flops / 1e6:,.0f} M" if one.is_encoded else "unknown",
                _cost_bar(cost.body_flops / top, cost.output_flops / top) if one.is_encoded else "",
            ]
        )
    columns = ["", "rows", "rows added", "tokens", "a matrix", "per byte", ""]
    html = [
        f'<p class="soft">In a model of width {shape.width:,} and {shape.layers} layers '
        f"({shape.body_parameters / 1e6:,.0f} M parameters without its embeddings): a matrix has "
        "rows times width parameters, a model two of them, or one where they are tied. "
        "Operations of a forward pass for each byte of text, two for each parameter and token: of "
        "the body, and of the output matrix, which grows with the vocabulary. Attention over the "
        "context is left out. Arithmetic, not a forecast of quality.</p>",
        legend(["body", "output matrix"], "ab"),
        _bars(table(columns, rows, numbers=(1, 2, 3, 4, 5))),
    ]
    timed = [(one, one.speed) for one in scores if one.speed is not None]
    if timed:
        fastest = max(speed.megabytes_per_cpu_second for _, speed in timed)
        body = [
            [
                text(one.name),
                f"{speed.megabytes_per_cpu_second:.1f}",
                f"{speed.megabytes_per_second:.1f}",
                f"{speed.tokens_per_second / 1e6:.2f} M",
                bar(speed.megabytes_per_cpu_second / fastest, "c"),
            ]
            for one, speed in timed
        ]
        size, passes = timed[0][1].bytes, timed[0][1].passes
        names = ["", "MB per CPU second", "MB per second", "tokens per second", ""]
        html += [
            "<h3>Encoding, on one thread</h3>",
            f'<p class="soft">The best of {passes} passes over {size:,} bytes after one that was '
            "not timed, on the machine that made this page. MB: 10<sup>6</sup> bytes.</p>",
            _bars(table(names, body, numbers=(1, 2, 3))),
        ]
    return "".join(html)


def against(one: TokenizerScore, first: TokenizerScore) -> str:
    """Return a tokenizer's tokens against the first one's, where both really encode the texts."""
    if not one.is_encoded or not first.is_encoded:
        return "unknown"
    return f"{one.tokens / first.tokens - 1:+.1%}"


def _cost_bar(body: float, output: float) -> str:
    return (
        '<svg class="bar tall" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="a" width="{100 * body:.2f}" height="10"/>'
        f'<rect class="b" x="{100 * body:.2f}" width="{100 * output:.2f}" height="10"/></svg>'
    )
