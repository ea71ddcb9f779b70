//! The definitions, by enumeration: for vocabularies of a few tokens and texts of a few bytes.

use super::{END, Law, NEXT_BYTE_LEN, log_add};
use crate::ids::TokenId;

/// Everything the laws speak of.
pub struct Reference<'a> {
    /// Tokens that stand for bytes.
    pub tokens: Vec<(TokenId, Vec<u8>)>,
    /// Ids that end the text.
    pub ends: Vec<TokenId>,
    /// Ids that take no part.
    pub forbidden: Vec<TokenId>,
    /// The model: logits of the next id, given a context.
    pub logits: &'a dyn Fn(&[TokenId]) -> Vec<f64>,
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
        let all: Vec<TokenId> = self.tokens.iter().map(|(id, _)| *id).chain(self.ends.iter().copied()).collect();
        let allowed: Vec<TokenId> = self
            .tokens
            .iter()
            .map(|(id, _)| *id)
            .filter(|&id| fits(id))
            .chain(self.ends.iter().copied().filter(|_| ends))
            .collect();
        let norm_over = if law == Law::Local { &allowed } else { &all };
        let norm = norm_over.iter().map(|&id| logits[id as usize]).fold(f64::NEG_INFINITY, log_add);
        allowed.into_iter().map(|id| (id, logits[id as usize] - norm)).collect()
    }

    /// The next-byte distribution and the mass of a prefix.
    pub fn prefix(&self, law: Law, text: &[u8]) -> Prefix {
        let mut next = [f64::NEG_INFINITY; NEXT_BYTE_LEN];
        let mut log_mass = f64::NEG_INFINITY;
        let mut open: Vec<(Vec<TokenId>, usize, f64)> = vec![(Vec::new(), 0, 0.0)];
        while let Some((context, pos, weight)) = open.pop() {
            if pos == text.len() {
                log_mass = log_add(log_mass, weight);
            }
            for (id, step) in self.steps(law, &context) {
                let weight = weight + step;
                let Some((_, token)) = self.tokens.iter().find(|(token, _)| *token == id) else {
                    if pos == text.len() {
                        next[END] = log_add(next[END], weight);
                    }
                    continue;
                };
                let rest = &text[pos..];
                if token.len() > rest.len() {
                    if token.starts_with(rest) {
                        let byte = usize::from(token[rest.len()]);
                        next[byte] = log_add(next[byte], weight);
                        if pos < text.len() {
                            log_mass = log_add(log_mass, weight);
                        }
                    }
                } else if rest.starts_with(token) {
                    let mut longer = context.clone();
                    longer.push(id);
                    open.push((longer, pos + token.len(), weight));
                }
            }
        }
        let total = next.iter().copied().fold(f64::NEG_INFINITY, log_add);
        if total > f64::NEG_INFINITY {
            next.iter_mut().for_each(|value| *value -= total);
        }
        Prefix { logprobs: next, log_mass }
    }
}
