//! Cover encodings of a byte prefix, and the next-byte distributions that they make.
//!
//! # What is computed
//! `p` is a model's probability of the next token after a context. A *cover* of a text `x` is a sequence of tokens whose
//! bytes begin with `x` and, without its last token, are shorter than `x`. Three laws make bytes of tokens:
//!
//! - [`Law::Local`]: `q(v | t) = p(v | t) / Z(t)` for the tokens `v` that keep `t` canonical (and the end where the text
//!   may end), 0 for all others; then all covers are summed. A proper language model over bytes: the chain rule holds.
//! - [`Law::Canonical`]: `p` summed over canonical covers; the next byte is renormalised (Phan et al. 2410.09303; Hayase et
//!   al. 2506.14123). Conditionals do not chain.
//! - [`Law::Marginal`]: `p` summed over all covers (Vieira et al. 2412.03719). Their number grows exponentially, so some may
//!   stay unevaluated: their weight bounds what they could add.
//!
//! A sequence of tokens is *canonical* here when some text, its own or a longer one, is encoded to a sequence that begins
//! with it. Since a prefix of a canonical sequence is canonical, canonical covers form a tree with about one new node per
//! byte, and no search is needed.
//!
//! # How
//! [`CoverModel`] holds what depends on the vocabulary alone: the tokens sorted by bytes, the canonical test, what special
//! tokens mean. [`CoverState`] is a prefix: the [`Node`]s (contexts of tokens) that may still be continued inside a token,
//! each with an interval of the sorted tokens. A node needs the model's logits once; [`CoverState::needed`] says which, and
//! [`CoverState::feed`] takes them. Pushing a byte asks the model nothing. [`Sweep`] does the same for all positions of a
//! known text, and keeps no logits. [`reference`] enumerates, for vocabularies of a few tokens.

mod added;
mod canon;
mod feeding;
mod follow;
mod frontier;
mod guide;
mod longest;
mod masks;
mod model;
mod node;
mod normal;
mod normal_masks;
mod pick;
mod piece;
pub mod reference;
mod rules;
mod state;
mod sums;
mod sweep;
#[cfg(test)]
mod tests;
mod viterbi;

pub use feeding::{DeviceSums, Layout, Wanted, mask_words};
pub use model::{CoverModel, Exactness, Law, Policy};
pub use node::Node;
pub use pick::Picked;
pub use state::{Cover, CoverState, Needed};
pub use sweep::Sweep;

/// 256 bytes and END.
pub const NEXT_BYTE_LEN: usize = 257;

/// The position of END in a next-byte distribution.
pub const END: usize = 256;

/// `ln(exp(a) + exp(b))`.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}
