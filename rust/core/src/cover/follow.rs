//! Which token may follow a context: cuts, added tokens, the encoder and the normalizer together.
//!
//! Each of them knows for itself that some continuation is right for it; that one continuation is right for all has to be
//! looked for where the text may not simply end behind the token ([`CoverModel::lives`]): `'r` whose pretoken can only
//! become `'re`, which is encoded as `'` and `re`; a space that can only be followed by one that makes an added token of
//! both.

use std::sync::{Arc, PoisonError};

use super::added::Runs;
use super::canon::Open;
use super::masks::Passing;
use super::model::CoverModel;
use super::node::Node;
use super::normal_masks::{Ending, NormalMasks};
use super::piece::{Group, Tail};
use crate::ids::TokenId;
use crate::index::{Bits, Interval};
use crate::pretoken::streaming::{StateId, Streaming};

/// Tokens that are tried in the search for a continuation. Published patterns leave a handful of characters to choose
/// from where they force one at all; what is not settled by then counts as possible.
const TRIES: u32 = 100_000;

/// Masks kept; 16 KiB each for 128,000 tokens.
const KEPT: usize = 4096;

impl CoverModel {
    fn open(&self, node: &Arc<Node>, group: &Group) -> Open {
        node.open(group.start, |id| self.bytes_of(id))
    }

    /// Whether the text may end behind a context.
    pub(super) fn ends(&self, node: &Arc<Node>) -> bool {
        self.is_marginal()
            || (!node.blank
                && self.normal.as_ref().is_none_or(|normal| normal.may_end(|| self.segment_end(node, normal)))
                && node.groups.iter().any(|group| self.segment_ends(node, group)))
    }

    fn segment_ends(&self, node: &Arc<Node>, group: &Group) -> bool {
        self.ends_with(group, || self.open(node, group))
    }

    fn ends_with(&self, group: &Group, open: impl FnOnce() -> Open) -> bool {
        group.empty || (self.machine.can_end(group.stream) && self.canon.may_end(&group.tail, open))
    }

    /// The same hypothesis with a cut right here, behind `depth` tokens.
    fn cut(&self, group: &Group, depth: u32, open: impl FnOnce() -> Open) -> Option<Group> {
        let stream = self.machine.cut(group.stream);
        if group.empty || stream == Streaming::DEAD || !self.canon.may_end(&group.tail, open) {
            return None;
        }
        Some(Group { start: self.start_at(depth), stream, tail: Tail::Fresh, ..*group })
    }

    /// Where a pretoken began, if anything depends on it: hypotheses that go on alike are then one.
    fn start_at(&self, depth: u32) -> u32 {
        if self.canon.needs_open() { depth } else { 0 }
    }

    /// The hypotheses of a context, and those with a cut right here.
    fn alternatives(&self, node: &Arc<Node>) -> Vec<Group> {
        let mut all = node.groups.clone();
        for group in &node.groups {
            if let Some(cut) = self.cut(group, node.depth(), || self.open(node, group))
                && !all.contains(&cut)
            {
                all.push(cut);
            }
        }
        all
    }

    /// The context with one token more; `None` where that is not canonical.
    pub(super) fn child(&self, node: &Arc<Node>, id: TokenId) -> Option<Arc<Node>> {
        let token = self.bytes_of(id);
        if node.lead && !token.starts_with(b" ") {
            return None;
        }
        let len = token.len();
        if self.is_marginal() {
            return Some(Node::child(node, id, len, Vec::new()));
        }
        let groups = self.groups_behind(node, id);
        (!groups.is_empty()).then(|| Node::child(node, id, len, groups))
    }

    /// The hypotheses behind one token more; none where that is not canonical.
    fn groups_behind(&self, node: &Arc<Node>, id: TokenId) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let Some(place) = self.index.place(id) else { return groups };
        let token = self.index.token(place);
        let mut add = |group: Group| {
            if !groups.contains(&group) {
                groups.push(group);
            }
        };
        if self.added.has(id) {
            if !self.added_is_raw && !self.is_normal(node, place) {
                return groups;
            }
            for group in node.groups.iter().filter(|group| self.segment_ends(node, group)) {
                if let Some(runs) = self.added.pass(group.runs, token) {
                    let start = self.start_at(node.depth() + 1);
                    add(Group { start, stream: self.machine.start(), runs, tail: Tail::Fresh, empty: true });
                }
            }
            return groups;
        }
        if !self.is_normal(node, place) {
            return groups;
        }
        for group in self.alternatives(node) {
            let Some((stream, runs)) = self.read(&group, token) else { continue };
            let Some(tail) = self.canon.next(&self.index, &group.tail, id, || self.open(node, &group)) else {
                continue;
            };
            let after = Group { stream, runs, tail, empty: false, ..group };
            if self.is_settled(stream) && self.canon.is_settled(&after.tail) {
                add(after);
                continue;
            }
            let mut open = if self.canon.needs_open() { self.open(node, &group) } else { Open::default() };
            open.push(id, token);
            if self.lives(&after, &mut open) {
                add(after);
            }
        }
        groups
    }

    fn read(&self, group: &Group, token: &[u8]) -> Option<(StateId, Runs)> {
        let (mut stream, mut runs) = (group.stream, group.runs);
        for &byte in token {
            stream = self.machine.step(stream, byte);
            if stream == Streaming::DEAD {
                return None;
            }
            runs = self.added.step(runs, byte, true)?;
        }
        Some((stream, runs))
    }

    /// Whether some text goes on from here if the pretoken may end here.
    fn is_settled(&self, stream: StateId) -> bool {
        self.machine.can_end(stream) || (self.added.is_empty() && self.machine.cut(stream) != Streaming::DEAD)
    }

    /// Whether some text goes on from here; `open` are the tokens of the open pretoken.
    fn lives(&self, group: &Group, open: &mut Open) -> bool {
        self.canon.is_pipeline() || self.search(group, open, &mut { TRIES })
    }

    fn search(&self, group: &Group, open: &mut Open, tries: &mut u32) -> bool {
        if self.ends_with(group, || open.clone())
            || (self.added.is_empty() && self.cut(group, 0, || open.clone()).is_some())
        {
            return true;
        }
        let cut = self.cut(group, 0, || open.clone());
        let mut later = Vec::new();
        if self.try_tokens(group, open, tries, &mut later) {
            return true;
        }
        for (after, id) in later.drain(..) {
            let len = open.bytes.len();
            open.push(id, self.bytes_of(id));
            let found = self.search(&after, open, tries);
            open.pop(len);
            if found {
                return true;
            }
        }
        let Some(cut) = cut else { return false };
        let mut fresh = Open::default();
        if self.try_tokens(&cut, &mut fresh, tries, &mut later) {
            return true;
        }
        later.into_iter().any(|(after, id)| {
            let mut open = Open::default();
            open.push(id, self.bytes_of(id));
            self.search(&after, &mut open, tries)
        })
    }

    /// Whether some token behind a hypothesis may end the text; `later` gets those that may only go on.
    fn try_tokens(&self, group: &Group, open: &mut Open, tries: &mut u32, later: &mut Vec<(Group, TokenId)>) -> bool {
        if group.tail == Tail::Whole {
            return false;
        }
        let mut stack = vec![(self.index.root(), 0, group.stream, group.runs)];
        while let Some((at, depth, stream, runs)) = stack.pop() {
            for (byte, child) in self.index.children(at, depth) {
                let stream = self.machine.step(stream, byte);
                let Some(runs) = self.added.step(runs, byte, true).filter(|_| stream != Streaming::DEAD) else {
                    continue;
                };
                let ending = self.index.ending(child, depth + 1);
                for place in ending.lo..ending.hi {
                    *tries = tries.saturating_sub(1);
                    if *tries == 0 {
                        return true;
                    }
                    let id = self.index.id(place);
                    let Some(tail) = self.canon.next(&self.index, &group.tail, id, || open.clone()) else { continue };
                    let after = Group { stream, runs, tail, empty: false, ..*group };
                    let len = open.bytes.len();
                    open.push(id, self.index.token(place));
                    let ends = self.ends_with(&after, || open.clone());
                    open.pop(len);
                    if ends {
                        return true;
                    }
                    later.push((after, id));
                }
                stack.push((Interval { lo: ending.hi, ..child }, depth + 1, stream, runs));
            }
        }
        false
    }

    /// The places of the tokens that may follow a context; `None` for all.
    pub(super) fn mask(&self, node: &Arc<Node>) -> Option<Arc<Bits>> {
        let spaces = || {
            let mut spaces = Bits::new();
            spaces.insert_range(self.index.narrow(self.index.root(), 0, b' '));
            spaces
        };
        if self.is_marginal() {
            return node.lead.then(|| Arc::new(spaces()));
        }
        let mut mask = self.canonical_mask(node);
        if node.lead {
            Arc::make_mut(&mut mask).and(&spaces());
        }
        Some(mask)
    }

    fn canonical_mask(&self, node: &Arc<Node>) -> Arc<Bits> {
        let mut all: Option<Arc<Bits>> = None;
        for group in self.alternatives(node) {
            let mask = self.group_mask(node, &group);
            match &mut all {
                None => all = Some(mask),
                Some(all) => Arc::make_mut(all).or(&mask),
            }
        }
        let mut all = all.unwrap_or_default();
        self.keep_normal(node, &mut all);
        for (id, token) in self.added.tokens() {
            let fits = |group: &Group| self.segment_ends(node, group) && self.added.pass(group.runs, token).is_some();
            if let Some(place) = self.index.place(*id) {
                let fits = (self.added_is_raw || self.is_normal(node, place)) && node.groups.iter().any(fits);
                if all.get(place) != fits {
                    Arc::make_mut(&mut all).set(place, fits);
                }
            }
        }
        all
    }

    /// The places of the tokens that one hypothesis lets follow, without a cut before them.
    fn group_mask(&self, node: &Arc<Node>, group: &Group) -> Arc<Bits> {
        if group.tail == Tail::Whole {
            return Arc::default();
        }
        let passing = self.live.mask(&self.index, (&self.machine, &self.added), (group.stream, group.runs));
        if !self.canon.needs_open() {
            return self.remembered(group, || self.compute(group, &passing, &mut Open::default()));
        }
        let mut open = self.open(node, group);
        if !self.canon.is_bpe() {
            return Arc::new(self.compute(group, &passing, &mut open));
        }
        // Of the open pretoken's bytes only that matters by which tokens that merges do not make it may become.
        let mut mask = self.remembered(group, || self.compute(group, &passing, &mut Open::default()));
        if group.tail != Tail::Fresh {
            self.correct(group, &passing, &mut open, &mut mask);
        }
        mask
    }

    fn remembered(&self, group: &Group, compute: impl FnOnce() -> Bits) -> Arc<Bits> {
        if !group.tail.comes_again() {
            return Arc::new(compute());
        }
        let key = (group.stream, group.runs, group.tail.clone());
        if let Some(mask) = self.following.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(mask);
        }
        let mask = Arc::new(compute());
        let mut following = self.following.write().unwrap_or_else(PoisonError::into_inner);
        if following.len() >= KEPT {
            following.clear();
        }
        following.insert(key, Arc::clone(&mask));
        mask
    }

    fn compute(&self, group: &Group, passing: &Passing, open: &mut Open) -> Bits {
        let mut mask = passing.live.clone();
        if let Some(next) = self.canon.mask(&self.index, &group.tail, &mask, || open.clone()) {
            mask.and(&next);
        }
        for &(place, stream, runs) in &passing.open {
            if mask.get(place) && !self.lives_behind(group, (stream, runs), place, open) {
                mask.set(place, false);
            }
        }
        if group.tail == Tail::Fresh {
            for &place in self.alone.iter().filter(|&&place| passing.live.get(place)) {
                if let Some(after) = self.read(group, self.index.token(place)) {
                    mask.set(place, self.lives_behind(group, after, place, open));
                }
            }
        }
        mask
    }

    fn lives_behind(&self, group: &Group, (stream, runs): (StateId, Runs), place: u32, open: &mut Open) -> bool {
        let id = self.index.id(place);
        let Some(tail) = self.canon.next(&self.index, &group.tail, id, || open.clone()) else { return false };
        let after = Group { stream, runs, tail, empty: false, ..*group };
        let len = open.bytes.len();
        open.push(id, self.index.token(place));
        let lives = self.lives(&after, open);
        open.pop(len);
        lives
    }

    /// Judges again the tokens behind which the open pretoken is, or may become, a token that merges do not make.
    fn correct(&self, group: &Group, passing: &Passing, open: &mut Open, mask: &mut Arc<Bits>) {
        let from = self.alone.partition_point(|&place| self.index.token(place) < &open.bytes[..]);
        let mut seen = Vec::new();
        for &place in &self.alone[from..] {
            let Some(rest) = self.index.token(place).strip_prefix(&open.bytes[..]) else { break };
            let mut at = self.index.root();
            for (depth, &byte) in (0..).zip(rest) {
                at = self.index.narrow(at, depth, byte);
                let ending = self.index.ending(at, depth + 1);
                seen.extend((ending.lo..ending.hi).filter(|&place| mask.get(place)));
                at.lo = ending.hi;
                if at.is_empty() {
                    break;
                }
            }
        }
        seen.sort_unstable();
        seen.dedup();
        for place in seen {
            let after = match passing.open.binary_search_by_key(&place, |open| open.0) {
                Ok(at) => Some((passing.open[at].1, passing.open[at].2)),
                Err(_) => self.read(group, self.index.token(place)),
            };
            if !after.is_some_and(|after| self.lives_behind(group, after, place, open)) {
                Arc::make_mut(mask).set(place, false);
            }
        }
    }

    fn is_normal(&self, node: &Arc<Node>, place: u32) -> bool {
        let Some(normal) = &self.normal else { return true };
        normal.may_follow(place, self.index.token(place), || self.segment_end(node, normal))
    }

    fn keep_normal(&self, node: &Arc<Node>, mask: &mut Arc<Bits>) {
        if let Some(normal) = &self.normal {
            normal.keep(&self.index, &self.segment_end(node, normal), Arc::make_mut(mask));
        }
    }

    /// The end of the text that is normalized as one.
    fn segment_end(&self, node: &Arc<Node>, normal: &NormalMasks) -> Ending {
        let stops = |id| self.added_is_raw && self.added.has(id);
        let text = node.text_end(normal.room(), stops, |id| self.bytes_of(id));
        Ending { whole: node.first && text.len() == node.pos(), text }
    }

    /// Whether some token of an interval may follow a context.
    pub(super) fn any_allowed(&self, node: &Arc<Node>, at: Interval) -> bool {
        (at.lo..at.hi).any(|place| !self.groups_behind(node, self.index.id(place)).is_empty())
    }
}
