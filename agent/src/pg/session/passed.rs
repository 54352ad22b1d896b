//! What a look at bytes came to: how many are taken, and what goes on in their place.

/// What a look at the front of one direction's bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that are done with. Never looked at again.
    pub taken: usize,
    /// What is sent on for them.
    pub output: Output,
}

/// What is sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The bytes taken, as they are.
    AsIs,
    /// These bytes in their place; there may be none of either.
    Instead(Vec<u8>),
}

impl Passed {
    /// Bytes that pass as they came.
    pub fn as_is(taken: usize) -> Self {
        Self { taken, output: Output::AsIs }
    }

    /// Others in their place.
    pub fn instead(taken: usize, bytes: Vec<u8>) -> Self {
        Self { taken, output: Output::Instead(bytes) }
    }

    /// Whether nothing was taken and nothing is sent: there is no use in calling again.
    pub fn is_nothing(&self) -> bool {
        self.taken == 0
            && match &self.output {
                Output::AsIs => true,
                Output::Instead(bytes) => bytes.is_empty(),
            }
    }

    /// Bytes sent on.
    pub fn sent_bytes(&self) -> usize {
        match &self.output {
            Output::AsIs => self.taken,
            Output::Instead(bytes) => bytes.len(),
        }
    }

    /// What is sent on, given what was looked at.
    pub fn output<'b>(&'b self, input: &'b [u8]) -> &'b [u8] {
        match &self.output {
            Output::AsIs => &input[..self.taken],
            Output::Instead(bytes) => bytes,
        }
    }
}
