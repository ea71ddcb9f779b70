//! What a description's pipeline amounts to: which of its steps need not be carried out step by step.

use crate::formats::{Description, Model, Normalizer, Pattern, PreTokenizer, PrependScheme};

const MARK: char = '▁';

/// When the word mark is put in front of a text that is otherwise only searched for spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Never.
    Never,
    /// Before every text that is not empty.
    Always,
    /// Before every text that does not start with a mark.
    AlwaysUnlessMarked,
    /// The same, at the start of the whole text only.
    FirstUnlessMarked,
}

/// The steps of a sequence, nested ones in line.
fn flatten<'a>(pre: &'a PreTokenizer, out: &mut Vec<&'a PreTokenizer>) {
    match pre {
        PreTokenizer::Sequence(parts) => parts.iter().for_each(|part| flatten(part, out)),
        part => out.push(part),
    }
}

fn flatten_normalizer<'a>(normalizer: &'a Normalizer, out: &mut Vec<&'a Normalizer>) {
    match normalizer {
        Normalizer::Sequence(parts) => parts.iter().for_each(|part| flatten_normalizer(part, out)),
        part => out.push(part),
    }
}

/// The pre-tokenizer's steps.
pub(crate) fn steps(pre: &PreTokenizer) -> Vec<&PreTokenizer> {
    let mut out = Vec::new();
    flatten(pre, &mut out);
    out
}

/// The normalizer's steps.
pub(crate) fn normalizer_steps(normalizer: &Normalizer) -> Vec<&Normalizer> {
    let mut out = Vec::new();
    flatten_normalizer(normalizer, &mut out);
    out
}

/// Whether the model's input is GPT-2's byte alphabet.
pub(crate) fn is_byte_level(description: &Description) -> bool {
    writes_alphabet(&description.pre_tokenizer)
        || normalizer_steps(&description.normalizer).iter().any(|step| matches!(step, Normalizer::ByteLevel))
}

/// Whether it writes GPT-2's byte alphabet.
pub(crate) fn writes_alphabet(pre_tokenizer: &PreTokenizer) -> bool {
    steps(pre_tokenizer).iter().any(|step| matches!(step, PreTokenizer::ByteLevel { .. }))
}

/// The character that stands for a space in the model's input.
pub(crate) fn mark_of(description: &Description) -> Option<char> {
    let pre = steps(&description.pre_tokenizer).into_iter().find_map(|step| match step {
        PreTokenizer::Metaspace { replacement, .. } => Some(*replacement),
        _ => None,
    });
    pre.or_else(|| {
        normalizer_steps(&description.normalizer).into_iter().find_map(|step| match step {
            Normalizer::Replace { pattern: Pattern::Literal(from), content } if from == " " => single(content),
            Normalizer::SentencePiece(spec) if spec.escape_whitespaces => Some(MARK),
            _ => None,
        })
    })
}

/// Whether a text is given a space in front, which decoding takes away again.
pub(crate) fn puts_a_space_first(description: &Description) -> bool {
    let marks = |step: &PreTokenizer| match step {
        PreTokenizer::Metaspace { prepend_scheme, .. } => *prepend_scheme != PrependScheme::Never,
        PreTokenizer::ByteLevel { add_prefix_space, .. } => *add_prefix_space,
        _ => false,
    };
    always_puts_a_space_first(description) || steps(&description.pre_tokenizer).into_iter().any(marks)
}

/// Whether it is put there even where the text begins with one.
pub(crate) fn always_puts_a_space_first(description: &Description) -> bool {
    let writes = |step: &Normalizer| match step {
        Normalizer::Prepend(text) => single(text) == Some(MARK) || text == " ",
        Normalizer::SentencePiece(spec) => spec.add_dummy_prefix && !spec.treat_whitespace_as_suffix,
        _ => false,
    };
    matches!(description.model, Model::WordPiece(_))
        || normalizer_steps(&description.normalizer).into_iter().any(writes)
}

fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// Whether a mark goes in front of the whole text only.
pub(crate) fn marks_first(description: &Description) -> bool {
    steps(&description.pre_tokenizer)
        .iter()
        .any(|step| matches!(step, PreTokenizer::Metaspace { prepend_scheme: PrependScheme::First, .. }))
}

/// Whether [`marked`] says how.
pub(crate) fn is_marked(description: &Description) -> bool {
    marked(description).is_some()
}

/// Whether spaces only become `▁`, with perhaps one in front: then the model can take the text as it is.
pub(crate) fn marked(description: &Description) -> Option<Prefix> {
    let Model::Bpe(_) = &description.model else { return None };
    if description.added_tokens.iter().any(|token| token.normalized) {
        return None; // these are searched in the normalized text
    }
    let replaces = |step: &Normalizer| {
        matches!(step, Normalizer::Replace { pattern: Pattern::Literal(from), content }
            if from == " " && single(content) == Some(MARK))
    };
    let prepends =
        |step: &Normalizer| matches!(step, Normalizer::Prepend(text) if single(text) == Some(MARK) || text == " ");
    let normalizers = normalizer_steps(&description.normalizer);
    match (normalizers.as_slice(), steps(&description.pre_tokenizer).as_slice()) {
        ([], [PreTokenizer::Metaspace { replacement: MARK, prepend_scheme, split: false }]) => {
            Some(match prepend_scheme {
                PrependScheme::Never => Prefix::Never,
                PrependScheme::Always => Prefix::AlwaysUnlessMarked,
                PrependScheme::First => Prefix::FirstUnlessMarked,
            })
        }
        ([one], []) if replaces(one) => Some(Prefix::Never),
        // Gemma: a split at spaces of which none is left.
        ([one], [PreTokenizer::Split { pattern: Pattern::Literal(at), invert: false, .. }])
            if replaces(one) && at == " " =>
        {
            Some(Prefix::Never)
        }
        ([first, second], []) if prepends(first) && replaces(second) => Some(Prefix::Always),
        ([Normalizer::SentencePiece(spec)], [])
            if spec.charsmap.is_empty()
                && spec.escape_whitespaces
                && !spec.remove_extra_whitespaces
                && !spec.treat_whitespace_as_suffix
                && spec.protected.is_empty() =>
        {
            Some(if spec.add_dummy_prefix { Prefix::Always } else { Prefix::Never })
        }
        _ => None,
    }
}
