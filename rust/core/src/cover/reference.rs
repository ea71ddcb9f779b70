//! The definitions, by enumeration: for vocabularies of a few tokens and texts of a few bytes.

use super::{END, Law, NEXT_BYTE_LEN, log_add};
use crate::ids::TokenId;

/// Chains of tokens without bytes are followed down to this log probability.
const FAINT: f64 = -32.0;

/// Everything the laws speak of.
pub struct Reference<'a> {
    /// Tokens that stand for bytes.
    pub tokens: Vec<(TokenId, Vec<u8>)>,
    /// Ids that end the text.
    pub ends: Vec<TokenId>,
    /// Ids that may occur and end all that can be accounted for.
    pub drops: Vec<TokenId>,
    /// Ids that may occur and stand for nothing, under the marginal law.
    pub latents: Vec<TokenId>,
    /// Whether texts begin with a space that is not the caller's: the empty text is then encoded to nothing.
    pub lead: bool,
    /// The model: logits of the next id, given a context.
    pub logits: &'a dyn Fn(&[TokenId]) -> Vec<f32>,
    /// Whether some text's encoding begins with these ids.
    pub canonical: &'a dyn Fn(&[TokenId]) -> bool,
    /// Whether these ids are the encoding of their bytes.
    pub complete: &'a dyn Fn(&[TokenId]) -> bool,
}

/// What [`Reference::prefix`] finds.
pub struct Prefix {
    /// Natural-log probabilities of the next byte; they sum to 1.
    pub logprobs: [f64; NEXT_BYTE_LEN],
    /// The log probability of the prefix, summed over covers.
    pub log_mass: f64,
    /// The part of the next byte's probability that no byte will follow.
    pub missing: f64,
}

impl Reference<'_> {
    /// Log probabilities of all ids that may follow a context, by the law.
    pub fn steps(&self, law: Law, context: &[TokenId]) -> Vec<(TokenId, f64)> {
        let logits = (self.logits)(context);
        let marginal = matches!(law, Law::Marginal { .. });
        let fits = |id: TokenId| {
            let mut longer = context.to_vec();
            longer.push(id);
            marginal || (self.canonical)(&longer)
        };
        let ends = marginal || (self.complete)(context);
        let tokens = || self.tokens.iter().map(|(id, _)| *id);
        let always = || self.drops.iter().chain(&self.latents).copied();
        let all: Vec<TokenId> = tokens().chain(self.ends.iter().copied()).chain(always()).collect();
        let may_end = self.ends.iter().copied().filter(|_| ends);
        let allowed: Vec<TokenId> = tokens().filter(|&id| fits(id)).chain(may_end).chain(always()).collect();
        let norm_over = if law == Law::Local { &allowed } else { &all };
        let logit = |id: TokenId| f64::from(logits[id as usize]);
        let norm = norm_over.iter().map(|&id| logit(id)).fold(f64::NEG_INFINITY, log_add);
        if norm == f64::NEG_INFINITY {
            return Vec::new();
        }
        allowed.into_iter().map(|id| (id, logit(id) - norm)).collect()
    }

    /// The next-byte distribution and the mass of a prefix (with the space in front, where there is one).
    pub fn prefix(&self, law: Law, text: &[u8]) -> Prefix {
        let mut next = [f64::NEG_INFINITY; NEXT_BYTE_LEN];
        let (mut log_mass, mut lost) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let mut open: Vec<(Vec<TokenId>, usize, f64)> = vec![(Vec::new(), 0, 0.0)];
        while let Some((context, pos, weight)) = open.pop() {
            // The empty text ends before the space that is written in front of longer ones.
            let before_lead = self.lead && pos == 0 && text.len() == 1;
            let here = pos == text.len();
            let steps = self.steps(law, &context);
            if here {
                let latent = steps.iter().filter(|(id, _)| self.latents.contains(id)).map(|(_, step)| step.exp());
                log_mass = log_add(log_mass, weight + (1.0 - latent.sum::<f64>()).ln());
                if steps.is_empty() {
                    lost = log_add(lost, weight);
                }
            }
            for (id, step) in steps {
                let weight = weight + step;
                if self.latents.contains(&id) {
                    if weight > FAINT {
                        open.push(([&context[..], &[id]].concat(), pos, weight));
                    }
                    continue;
                }
                let Some((_, token)) = self.tokens.iter().find(|(token, _)| *token == id) else {
                    if here || before_lead {
                        let sum = if self.ends.contains(&id) { &mut next[END] } else { &mut lost };
                        *sum = log_add(*sum, weight);
                        if before_lead {
                            log_mass = log_add(log_mass, weight);
                        }
                    }
                    continue;
                };
                let rest = &text[pos..];
                if token.len() > rest.len() {
                    if token.starts_with(rest) {
                        let byte = usize::from(token[rest.len()]);
                        next[byte] = log_add(next[byte], weight);
                        if !here {
                            log_mass = log_add(log_mass, weight);
                        }
                    }
                } else if rest.starts_with(token) {
                    open.push(([&context[..], &[id]].concat(), pos + token.len(), weight));
                }
            }
        }
        let total = next.iter().copied().fold(f64::NEG_INFINITY, log_add);
        if total > f64::NEG_INFINITY {
            next.iter_mut().for_each(|value| *value -= total);
        }
        let missing = if lost == f64::NEG_INFINITY { 0.0 } else { (lost - log_add(total, lost)).exp() };
        Prefix { logprobs: next, log_mass, missing }
    }
}
