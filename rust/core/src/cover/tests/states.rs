//! States: chunks, forks, roll-backs, long texts, and all positions at once.

use super::*;
use crate::cover::{NEXT_BYTE_LEN, Sweep};

fn fake(tiny: &Tiny, seed: u64) -> Fake {
    Fake { rows: tiny.rows, seed, spread: 3.0, never: 0 }
}

#[track_caller]
fn same(a: &[f64; NEXT_BYTE_LEN], b: &[f64; NEXT_BYTE_LEN], what: &dyn Fn() -> String) {
    for (a, b) in a.iter().zip(b) {
        agree(*a, *b, what);
    }
}

fn read(state: &mut CoverState, backend: &mut Backend) -> ([f64; NEXT_BYTE_LEN], f64) {
    backend.fill(state, false);
    (state.logprobs().unwrap(), state.log_mass().unwrap())
}

fn fresh(model: &Arc<CoverModel>, text: &[u8], fake: Fake) -> ([f64; NEXT_BYTE_LEN], f64) {
    let mut state = CoverState::new(model, true);
    state.push(text);
    read(&mut state, &mut Backend::new(fake))
}

fn laws() -> [Law; 3] {
    [Law::Local, Law::Canonical, Law::Marginal { eps: 0.0, budget: 1_000_000 }]
}

#[test]
fn asking_at_every_byte_gives_the_numbers_of_asking_once() {
    for (tiny, seed) in tokenizers::all().iter().zip(700..) {
        for law in laws() {
            let (model, fake) = (tiny.model(law), fake(tiny, seed));
            let mut random = Random(seed);
            let text = tiny.text(&mut random, 4);
            let (mut state, mut backend) = (CoverState::new(&model, true), Backend::new(fake));
            for (at, byte) in text.iter().enumerate() {
                state.push(&[*byte]);
                let found = read(&mut state, &mut backend);
                let wanted = fresh(&model, &text[..=at], fake);
                let shown = || format!("{} {law:?} {:?}", tiny.name, text[..=at].escape_ascii().to_string());
                same(&found.0, &wanted.0, &shown);
                agree(found.1, wanted.1, &shown);
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let tiny = tokenizers::ignore_merges();
    for law in laws() {
        let (model, fake) = (tiny.model(law), fake(&tiny, 800));
        let mut backend = Backend::new(fake);
        let mut state = CoverState::new(&model, true);
        state.push(b"ae");
        backend.fill(&mut state, false);
        let mut fork = state.clone();
        fork.push(b"re1");
        state.push(b"  a");
        let (one, two) = (read(&mut state, &mut backend), read(&mut fork, &mut backend));
        same(&one.0, &fresh(&model, b"ae  a", fake).0, &|| format!("{law:?}"));
        same(&two.0, &fresh(&model, b"aere1", fake).0, &|| format!("{law:?}"));
    }
}

#[test]
fn rolling_back_any_number_of_bytes_gives_the_numbers_of_a_fresh_state() {
    for (tiny, seed) in [tokenizers::patterns().remove(1), tokenizers::sentencepiece().remove(0)].iter().zip(900..) {
        let (model, fake) = (tiny.model(Law::Local), fake(tiny, seed));
        let mut random = Random(seed);
        let mut backend = Backend::new(fake);
        let mut state = CoverState::new(&model, true);
        let mut text = Vec::new();
        let counts = [1, 2, 3, 63, 64, 65, 66, 70, 100, 255, 256, 257, 300, 1, 5, 80];
        for (round, count) in counts.into_iter().enumerate() {
            while text.len() < 520 + 17 * round {
                let more = tiny.text(&mut random, 1);
                state.push(&more);
                text.extend(more);
            }
            if round % 3 == 0 {
                backend.fill(&mut state, false);
            }
            state.rollback(count).unwrap();
            text.truncate(text.len() - count);
            assert_eq!(state.text(), text);
            if round % 4 == 3 {
                continue; // and back again before anybody asks
            }
            let (found, wanted) = (read(&mut state, &mut backend), fresh(&model, &text, fake));
            same(&found.0, &wanted.0, &|| format!("{count} bytes back"));
            agree(found.1, wanted.1, &|| format!("{count} bytes back"));
        }
    }
}

#[test]
fn rolling_back_more_than_there_is_is_refused() {
    let tiny = tokenizers::sentencepiece().remove(0);
    let mut state = CoverState::new(&tiny.model(Law::Local), true);
    state.push(b"ab");
    assert_eq!(state.rollback(3).unwrap_err().field(), "count");
    state.rollback(2).unwrap();
    assert!(state.is_empty());
}

#[test]
fn a_rolled_back_marginal_state_is_a_fresh_one() {
    let tiny = tokenizers::sentencepiece().remove(0);
    let (model, fake) = (tiny.model(laws()[2]), fake(&tiny, 950));
    let mut state = CoverState::new(&model, true);
    let mut backend = Backend::new(fake);
    state.push(b"ab a");
    backend.fill(&mut state, false);
    state.rollback(2).unwrap();
    let found = read(&mut state, &mut backend);
    same(&found.0, &fresh(&model, b"ab", fake).0, &|| "marginal".to_owned());
}

#[test]
fn a_short_budget_never_loses_the_canonical_covers() {
    for (tiny, seed) in tokenizers::all().iter().zip(960..) {
        let short = tiny.model(Law::Marginal { eps: 1e-3, budget: 8 });
        if short.guide.is_none() {
            continue; // re-encoded: nothing is promised
        }
        // Far from what the model expects, so that the contexts that matter weigh next to nothing where they are born.
        let fake = Fake { rows: tiny.rows, seed, spread: 30.0, never: 0 };
        let (mut state, mut canonical) =
            (CoverState::new(&short, true), CoverState::new(&tiny.model(Law::Canonical), true));
        let (mut backend, mut other) = (Backend::new(fake), Backend::new(fake));
        let text = tiny.text(&mut Random(seed), 12);
        for (at, byte) in text.iter().enumerate() {
            state.push(&[*byte]);
            canonical.push(&[*byte]);
            let (found, wanted) = (read(&mut state, &mut backend).1, read(&mut canonical, &mut other).1);
            let shown = text[..=at].escape_ascii().to_string();
            assert!(found >= wanted - 1e-9 * wanted.abs(), "{} {shown:?}: {found} < {wanted}", tiny.name);
        }
    }
}

#[test]
fn an_impossible_prefix_has_no_mass_and_is_rolled_back() {
    // No piece and no byte token for a character: no text of this tokenizer has it.
    let tiny = tokenizers::unigram().remove(0);
    let (model, fake) = (tiny.model(Law::Local), fake(&tiny, 1000));
    let mut state = CoverState::new(&model, true);
    let mut backend = Backend::new(fake);
    state.push("a中b".as_bytes());
    let (next, mass) = read(&mut state, &mut backend);
    assert_eq!(mass, f64::NEG_INFINITY);
    assert!(next.iter().all(|&value| value == f64::NEG_INFINITY));
    assert_eq!(state.missing_mass().unwrap(), 0.0);
    state.rollback(4).unwrap();
    same(&read(&mut state, &mut backend).0, &fresh(&model, b"a", fake).0, &|| "rolled back".to_owned());
}

#[test]
fn all_positions_at_once_are_the_positions_one_by_one() {
    for (tiny, seed) in tokenizers::all().iter().zip(1100..) {
        for law in [Law::Local, Law::Canonical] {
            let (model, fake) = (tiny.model(law), fake(tiny, seed));
            let mut random = Random(seed);
            let (head, text) = (tiny.text(&mut random, 2), tiny.text(&mut random, 6));
            let mut backend = Backend::new(fake);
            let mut prefix = CoverState::new(&model, true);
            prefix.push(&head);
            if seed % 2 == 0 {
                backend.fill(&mut prefix, false);
            }
            let mut sweep = Sweep::new(&prefix, &text).unwrap();
            let needed = sweep.needed().clone();
            backend.answer(&needed, |id, logits| sweep.feed(id, logits).unwrap());
            let rows = sweep.logprobs().unwrap();
            assert_eq!(rows.len(), text.len() + 1);
            for (at, row) in rows.iter().enumerate() {
                let whole = [&head[..], &text[..at]].concat();
                let shown = || format!("{} {law:?} {:?} at {at}", tiny.name, whole.escape_ascii().to_string());
                same(row, &fresh(&model, &whole, fake).0, &shown);
            }
        }
    }
}

#[test]
fn the_mass_alone_asks_for_no_more_contexts() {
    let tiny = tokenizers::patterns().remove(0);
    let model = tiny.model(Law::Local);
    let (mut one, mut two) = (CoverState::new(&model, true), CoverState::new(&model, true));
    let (mut mass, mut all) = (Backend::new(fake(&tiny, 1)), Backend::new(fake(&tiny, 1)));
    one.push(b"ae are 1");
    two.push(b"ae are 1");
    mass.fill(&mut one, true);
    all.fill(&mut two, false);
    assert!(mass.asked < all.asked, "the context that ends here is only needed for what comes next");
}

#[test]
fn a_million_bytes_take_little_time_and_no_deep_stack() {
    let tiny = tokenizers::patterns().remove(1);
    let model = tiny.model(Law::Local);
    let mut random = Random(1200);
    let text: Vec<u8> = tiny.text(&mut random, 600_000).into_iter().take(1_000_000).collect();
    let worker = std::thread::Builder::new().stack_size(256 << 10);
    let run = move || {
        let mut state = CoverState::new(&model, true);
        for chunk in text.chunks(1000) {
            state.push(chunk);
            assert!(state.alive.len() < 16);
        }
        assert_eq!(state.len(), text.len());
        assert!(model.released().len() < 1000, "nodes that nobody asked about are not reported");
        state.rollback(1000).unwrap();
        drop(state);
    };
    worker.spawn(run).unwrap().join().unwrap();
}
