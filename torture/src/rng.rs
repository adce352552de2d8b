//! Random numbers that stay the same whatever crate changes, and the seeds of random tests.

/// SplitMix64; after a tape, if there is one.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    /// What comes first, the last byte first: a fuzzer decides there.
    tape: Vec<u8>,
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, tape: Vec::new() }
    }

    /// Takes two bytes of `tape` for each number, and goes on from their sum.
    pub fn taped(tape: &[u8]) -> Self {
        let state = tape.iter().map(|byte| u64::from(*byte)).sum();
        Self { state, tape: tape.iter().rev().copied().collect() }
    }

    /// Another one, which takes over the tape.
    pub fn fork(&mut self) -> Self {
        let tape = std::mem::take(&mut self.tape);
        Self { state: self.next_u64(), tape }
    }

    pub fn next_u64(&mut self) -> u64 {
        if let Some(byte) = self.tape.pop() {
            return u64::from(byte) | u64::from(self.tape.pop().unwrap_or(0)) << 8;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// A number of the range, its end included.
    pub fn within(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Whether the long mode is asked for.
pub fn is_long() -> bool {
    number("BRISTLECONE_LONG").is_some_and(|long| long != 0)
}

/// Runs `sequence` with each seed. Always the same ones in the quick mode, so that a red build stays red; others each time
/// in the long one. What fails names its seed.
pub fn sequences(name: &str, quick: u64, mut sequence: impl FnMut(u64)) {
    struct Named<'a>(&'a str, u64);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: failed; BRISTLECONE_SEED={} replays it", self.0, self.1);
            }
        }
    }
    let seeds = match number("BRISTLECONE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let factor = if is_long() { 200 } else { 1 };
            let count = number("BRISTLECONE_SEQUENCES").unwrap_or(quick * factor);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let base = if is_long() { now.as_micros() as u64 } else { 0 };
            base..base + count
        }
    };
    eprintln!("{name}: seeds {seeds:?}");
    for seed in seeds {
        let named = Named(name, seed);
        sequence(seed);
        drop(named);
    }
}
