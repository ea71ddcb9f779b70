//! The splits of a tree of pre-tokenizers.

use super::alphabet::Sets;
use super::layer::{Boundaries, Split};
use super::syntax::{Tree, literal, parse};
use crate::error::{Error, Result};
use crate::formats::description::{Pattern, PreTokenizer, PrependScheme, SplitBehavior};
use crate::limits::Limits;
use crate::pretoken::Splitter;
use crate::pretoken::known::spellings;
use crate::pretoken::onig::{self, Alternative};
use crate::pretoken::streaming::unsupported;
use crate::pretoken::tree::is_punctuation;

/// The splits of `tree`, in order; their sets go to `sets`.
///
/// # Errors
/// `Unsupported` naming the component or pattern, what [`Splitter::new`] says about a pattern, `Limit` for nesting.
pub(super) fn splits(tree: &PreTokenizer, limits: &Limits, sets: &mut Sets) -> Result<Vec<Split>> {
    let mut leaves = Vec::new();
    flatten(tree, limits, 0, &mut leaves)?;
    let mut splits = Vec::new();
    // Why nothing may cut any more.
    let mut rewritten = None;
    for leaf in leaves {
        let before = splits.len();
        match leaf {
            PreTokenizer::Sequence(_) => {}
            PreTokenizer::ByteLevel { add_prefix_space, use_regex, .. } => {
                if *add_prefix_space && !splits.is_empty() {
                    return Err(unsupported("ByteLevel that writes a space before every piece"));
                }
                if *use_regex {
                    splits.push(isolated(parse(spellings::GPT2, sets)?));
                }
            }
            PreTokenizer::Split { pattern, behavior, invert } => {
                splits.push(split(pattern, *behavior, *invert, limits, sets)?);
            }
            PreTokenizer::Metaspace { replacement, prepend_scheme, split } => {
                if *prepend_scheme != PrependScheme::Never && !splits.is_empty() {
                    return Err(unsupported("Metaspace that writes its mark before pieces"));
                }
                if *split {
                    let (space, mark) = (literal(" ", sets), literal(replacement.encode_utf8(&mut [0; 4]), sets));
                    let tree = Tree::Alternation(vec![space, mark]);
                    splits.push(Split { tree, boundaries: boundaries(SplitBehavior::MergedWithNext, false)? });
                }
            }
            PreTokenizer::Punctuation(behavior) => {
                splits.push(Split { tree: class(is_punctuation, sets), boundaries: boundaries(*behavior, false)? });
            }
            PreTokenizer::Digits { individual_digits } => {
                let behavior = if *individual_digits { SplitBehavior::Isolated } else { SplitBehavior::Contiguous };
                splits.push(Split { tree: class(char::is_numeric, sets), boundaries: boundaries(behavior, false)? });
            }
            PreTokenizer::Bert => return Err(drops("Bert")),
            PreTokenizer::Whitespace => return Err(drops("Whitespace")),
            PreTokenizer::WhitespaceSplit => return Err(drops("WhitespaceSplit")),
            PreTokenizer::CharDelimiterSplit(_) => return Err(drops("CharDelimiterSplit")),
            PreTokenizer::UnicodeScripts => return Err(drops("UnicodeScripts")),
            PreTokenizer::FixedLength(_) => return Err(unsupported("FixedLength")),
        }
        let cuts = splits.len() > before;
        if let Some(writer) = rewritten.filter(|_| cuts) {
            return Err(unsupported(format!("a split after {writer}, whose characters it sees")));
        }
        match leaf {
            PreTokenizer::ByteLevel { .. } => rewritten = Some("ByteLevel"),
            PreTokenizer::Metaspace { .. } => rewritten = Some("Metaspace"),
            _ => {}
        }
    }
    Ok(splits)
}

fn flatten<'p>(
    tree: &'p PreTokenizer,
    limits: &Limits,
    depth: usize,
    leaves: &mut Vec<&'p PreTokenizer>,
) -> Result<()> {
    if depth > limits.depth {
        return Err(Error::limit("pre_tokenizer", depth, limits.depth, "depth"));
    }
    match tree {
        PreTokenizer::Sequence(all) => all.iter().try_for_each(|leaf| flatten(leaf, limits, depth + 1, leaves)),
        leaf => {
            leaves.push(leaf);
            Ok(())
        }
    }
}

fn drops(component: &str) -> Error {
    unsupported(format!("{component}, which drops bytes of the text"))
}

fn isolated(tree: Tree) -> Split {
    Split { tree, boundaries: [[true; 2]; 2] }
}

/// Where items meet is a boundary unless the behaviour joins them; as `tree::cut` joins.
fn boundaries(behavior: SplitBehavior, invert: bool) -> Result<Boundaries> {
    let joins = |before: bool, after: bool| match behavior {
        SplitBehavior::Removed | SplitBehavior::Isolated => false,
        SplitBehavior::MergedWithPrevious => after && !before,
        SplitBehavior::MergedWithNext => !after && before,
        SplitBehavior::Contiguous => before == after,
    };
    if behavior == SplitBehavior::Removed {
        return Err(drops("a split with behavior Removed"));
    }
    Ok([false, true].map(|before| [false, true].map(|after| !joins(before != invert, after != invert))))
}

fn split(pattern: &Pattern, behavior: SplitBehavior, invert: bool, limits: &Limits, sets: &mut Sets) -> Result<Split> {
    let boundaries = boundaries(behavior, invert)?;
    Splitter::new(pattern, limits)?; // says what is malformed or too large
    let tree = match pattern {
        Pattern::Literal(text) => literal(text, sets),
        Pattern::FancyRegex(text) => parse(text, sets)?,
        Pattern::Regex(text) => {
            let alternatives = onig::translate(text, limits)?.alternatives;
            let joined: Vec<&str> = alternatives.iter().map(Alternative::fancy).collect();
            parse(&joined.join("|"), sets)?
        }
    };
    if tree.is_nullable() && behavior != SplitBehavior::Isolated {
        return Err(unsupported("empty matches that are not isolated"));
    }
    Ok(Split { tree, boundaries })
}

/// One character for which `is_in` holds.
fn class(is_in: fn(char) -> bool, sets: &mut Sets) -> Tree {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for c in ('\0'..=char::MAX).filter(|&c| is_in(c)).map(u32::from) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == c => *last = c,
            _ => ranges.push((c, c)),
        }
    }
    Tree::Set(sets.add(ranges))
}
