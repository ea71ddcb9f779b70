//! The byte distributions of all laws against their definitions.

use super::*;
use crate::cover::{END, log_add};

const MARGINAL: Law = Law::Marginal { eps: 0.0, budget: 1_000_000 };

fn fake(tiny: &Tiny, seed: u64) -> Fake {
    match seed % 3 {
        0 => Fake { rows: tiny.rows, seed, spread: 3.0, never: 0 },
        1 => Fake { rows: tiny.rows, seed, spread: 50.0, never: 0 },
        _ => Fake { rows: tiny.rows, seed, spread: 3.0, never: 5 },
    }
}

/// What a state says of a prefix is what the definition does.
fn agrees(tiny: &Tiny, law: Law, policies: &[(TokenId, Policy)], texts: &[Vec<u8>], fake: Fake) {
    let model = tiny.model_with(law, policies);
    let logits = |context: &[TokenId]| fake.logits(context);
    let canonical = |ids: &[TokenId]| tiny.is_canonical(ids);
    let complete = |ids: &[TokenId]| tiny.is_complete(ids);
    let reference = tiny.reference(&model, &logits, &canonical, &complete);
    for text in texts {
        let shown =
            |what: &str| format!("{what} under {law:?} of {}: {:?}", tiny.name, text.escape_ascii().to_string());
        let mut state = CoverState::new(&model, true);
        let mut backend = Backend::new(fake);
        state.push(text);
        backend.fill(&mut state, false);
        let wanted = reference.prefix(law, &tiny.internal(text));
        let found = state.logprobs().expect("all is fed");
        for (byte, (&found, &wanted)) in found.iter().zip(&wanted.logprobs).enumerate() {
            agree(found, wanted, &|| shown(&format!("next byte {byte}")));
        }
        agree(state.log_mass().expect("all is fed"), wanted.log_mass, &|| shown("log mass"));
        agree(state.missing_mass().expect("all is fed"), wanted.missing, &|| shown("missing mass"));
        let sum = found.iter().copied().fold(f64::NEG_INFINITY, log_add);
        if found.iter().any(|&value| value > f64::NEG_INFINITY) {
            agree(sum, 0.0, &|| shown("the sum of all"));
        }
        let mut state = CoverState::new(&model, true);
        state.push(text);
        Backend::new(fake).fill(&mut state, true);
        agree(state.log_mass().expect("its mass is known"), wanted.log_mass, &|| shown("log mass alone"));
    }
}

fn texts(tiny: &Tiny, seed: u64, count: usize, units: usize) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let mut texts = vec![Vec::new()];
    while texts.len() < count {
        let units = 1 + random.below(units);
        texts.push(tiny.text(&mut random, units));
    }
    texts
}

#[test]
fn the_laws_are_their_definitions_for_every_family() {
    for (tiny, seed) in tokenizers::all().iter().zip(100..) {
        let texts = texts(tiny, seed, 7, 4);
        agrees(tiny, Law::Local, &[], &texts, fake(tiny, seed));
        agrees(tiny, Law::Canonical, &[], &texts, fake(tiny, seed + 1));
        agrees(tiny, MARGINAL, &[], &texts, fake(tiny, seed + 2));
    }
}

#[test]
fn impossible_logits_are_impossible_under_every_law() {
    for (tiny, seed) in [tokenizers::uncut(), tokenizers::ignore_merges()].iter().zip(200..) {
        let fake = Fake { rows: tiny.rows, seed, spread: 50.0, never: 2 };
        for law in [Law::Local, Law::Canonical, MARGINAL] {
            agrees(tiny, law, &[], &texts(tiny, seed, 8, 4), fake);
        }
    }
}

#[test]
fn ends_drops_and_forbidden_ids_are_what_they_are_called() {
    for (tiny, seed) in tokenizers::all().iter().zip(300..) {
        let spare = |n: usize| u32::try_from(tiny.rows - n).expect("tiny");
        // The row that is no token, and bytes that no text of the units has.
        let policies = [(spare(1), Policy::End), (0x05, Policy::End), (0x06, Policy::Drop), (0x07, Policy::Forbid)];
        let texts = texts(tiny, seed, 4, 3);
        for law in [Law::Local, Law::Canonical, MARGINAL] {
            agrees(tiny, law, &policies, &texts, fake(tiny, seed));
        }
    }
}

#[test]
fn latent_ids_stand_for_nothing() {
    for (tiny, seed) in [tokenizers::uncut(), tokenizers::sentencepiece().remove(0)].iter().zip(400..) {
        let last = u32::try_from(tiny.rows - 1).expect("tiny");
        let policies = [(last, Policy::Latent), (0x05, Policy::End), (0x06, Policy::Drop)];
        let law = Law::Marginal { eps: 1e-11, budget: 1_000_000 };
        let fake = Fake { rows: tiny.rows, seed, spread: 1.0, never: 0 };
        agrees(tiny, law, &policies, &[Vec::new(), b"a".to_vec()], fake);
    }
}

#[test]
fn spelt_ids_are_added_tokens() {
    // The special token of this family, which is ordinary text unless it is spelt.
    let tiny = tokenizers::added_tokens(false);
    let id = u32::try_from(tiny.rows - 2).expect("tiny");
    let model = tiny.model_with(Law::Local, &[(id, Policy::Spell)]);
    assert!(node_of(&model, &[id, u32::from(b'a'), id]).is_some());
    let spelt: Vec<TokenId> = tiny.encode(b"<|end|>");
    assert!(spelt.len() > 1 && !spelt.contains(&id));
    assert!(node_of(&model, &spelt).is_none(), "its bytes are that token");
}

#[test]
fn conditionals_chain_under_the_proper_laws() {
    for (tiny, seed) in tokenizers::all().iter().zip(500..) {
        let end = (0x05, Policy::End);
        for law in [Law::Local, MARGINAL] {
            let model = tiny.model_with(law, &[end]);
            let fake = Fake { rows: tiny.rows, seed, spread: 3.0, never: 0 };
            let mut backend = Backend::new(fake);
            let mut random = Random(seed);
            for _ in 0..2 {
                let mut state = CoverState::new(&model, true);
                for byte in tiny.text(&mut random, 4) {
                    backend.fill(&mut state, false);
                    let (before, next) = (state.log_mass().unwrap(), state.logprobs().unwrap());
                    if before == f64::NEG_INFINITY {
                        break;
                    }
                    state.push(&[byte]);
                    backend.fill(&mut state, true);
                    let shown = || format!("{} {law:?} {:?}", tiny.name, state.text().escape_ascii().to_string());
                    let after = state.log_mass().unwrap();
                    // Under the marginal law first tokens without the space in front have mass and no bytes.
                    if matches!(law, Law::Local) || tiny.lead == Lead::None || state.len() > 1 {
                        agree(after, before + next[usize::from(byte)], &shown);
                    }
                }
            }
        }
    }
}

#[test]
fn end_and_all_next_bytes_make_up_the_mass_of_a_prefix() {
    let tiny = tokenizers::uncut();
    let model = tiny.model_with(Law::Local, &[(0x05, Policy::End)]);
    let fake = Fake { rows: tiny.rows, seed: 600, spread: 3.0, never: 0 };
    let mut state = CoverState::new(&model, true);
    state.push(b"ae 1");
    let mut backend = Backend::new(fake);
    backend.fill(&mut state, false);
    let (mass, next) = (state.log_mass().unwrap(), state.logprobs().unwrap());
    let mut total = mass + next[END];
    for byte in 0..=255_u8 {
        let mut longer = state.clone();
        longer.push(&[byte]);
        backend.fill(&mut longer, true);
        total = log_add(total, longer.log_mass().unwrap());
    }
    agree(total, mass, &|| "the sum over next bytes".to_owned());
}
