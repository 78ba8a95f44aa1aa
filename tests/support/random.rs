//! Random numbers that a seed repeats.

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of these.
    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A place among so many.
    pub(crate) fn index(&mut self, among: usize) -> usize {
        usize::try_from(self.below(among as u64)).expect("an index")
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The seed of this run: `CLAUDEMESH_SEED`, or always the same, so that a failure is there again tomorrow.
pub(crate) fn seed() -> u64 {
    std::env::var("CLAUDEMESH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x636d)
}
