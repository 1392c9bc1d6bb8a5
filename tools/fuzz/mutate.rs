//! Makes broken input from valid input: changes bytes, cuts, duplicates, moves, and mixes pieces, inserts words of
//! the format.

/// The maximum length of an input.
const INPUT_LIMIT_BYTES: usize = 256 * 1024;

/// The same number makes the same input.
pub fn broken(number: u64, seeds: &[Vec<u8>], dictionary: &'static [&'static str]) -> Vec<u8> {
    let mut mutator = Mutator { state: (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15), seeds, dictionary };
    let first = mutator.below(seeds.len());
    let mut input = seeds.get(first).cloned().unwrap_or_default();
    for _ in 0..1 + mutator.below(6) {
        mutator.change(&mut input);
    }
    input.truncate(INPUT_LIMIT_BYTES);
    input
}

struct Mutator<'s> {
    state: u64,
    seeds: &'s [Vec<u8>],
    dictionary: &'static [&'static str],
}

impl Mutator<'_> {
    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let to = (at + 1 + self.below(64)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.random() as u8,
            2 if at < to => {
                input.drain(at..to);
            }
            3 if at < to => {
                let piece = input[at..to].to_vec();
                let place = self.below(input.len() + 1);
                input.splice(place..place, piece);
            }
            // The same piece many times, for depth and length.
            4 if at < to => {
                let piece = input[at..to].repeat(1 + self.below(2_000));
                input.splice(at..at, piece);
            }
            5 => input.truncate(at),
            6 if !self.seeds.is_empty() => {
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len() + 1);
                let piece = self.seeds[other][from..].iter().take(512).copied().collect::<Vec<_>>();
                input.splice(at..at, piece);
            }
            _ if !self.dictionary.is_empty() => {
                let word = self.dictionary[self.below(self.dictionary.len())];
                input.splice(at..at, word.bytes());
            }
            _ => input.insert(at, self.random() as u8),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random() % limit.max(1) as u64) as usize
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
