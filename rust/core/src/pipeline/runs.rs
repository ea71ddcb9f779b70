//! Work on many texts, shared among threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `work` makes of runs of `texts` that follow each other, in their order; on up to `threads` threads.
///
/// Runs are of about equal size, several for each thread so that none waits long at the end. Where they are cut depends
/// on the number of threads: `work` has to make of two texts what it makes of each.
pub(crate) fn in_runs<T: Send>(texts: &[&[u8]], threads: usize, work: impl Fn(&[&[u8]]) -> T + Sync) -> Vec<T> {
    let runs = runs(texts, threads);
    let next = AtomicUsize::new(0);
    let take = || -> Vec<(usize, T)> {
        let mut done = Vec::new();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            let Some(range) = runs.get(run) else { return done };
            done.push((run, work(&texts[range.clone()])));
        }
    };
    let mut parts = if threads < 2 || runs.len() < 2 {
        take()
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads.min(runs.len())).map(|_| scope.spawn(take)).collect();
            let mut parts = take();
            for worker in workers {
                match worker.join() {
                    Ok(part) => parts.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts
        })
    };
    parts.sort_by_key(|(run, _)| *run);
    parts.into_iter().map(|(_, part)| part).collect()
}

fn runs(texts: &[&[u8]], threads: usize) -> Vec<Range<usize>> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let threads = threads.clamp(1, texts.len().max(1));
    let run_bytes = if threads == 1 { usize::MAX } else { (bytes / (threads * 8)).clamp(1 << 14, 1 << 22) };
    let mut runs = Vec::new();
    let (mut start, mut size) = (0, 0_usize);
    for (i, text) in texts.iter().enumerate() {
        size = size.saturating_add(text.len() + 16);
        if size >= run_bytes || i + 1 == texts.len() {
            runs.push(start..i + 1);
            (start, size) = (i + 1, 0);
        }
    }
    runs
}
